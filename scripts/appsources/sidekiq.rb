require "sidekiq"
require "socket"

BUSY = Queue.new # one for each job under way in this process

class Busy
  include Sidekiq::ServerMiddleware

  def call(*)
    BUSY << true
    yield
  ensure
    BUSY.pop
  end
end

Sidekiq.configure_server do |config|
  config.server_middleware { |chain| chain.add Busy }
  config.on(:startup) do
    server = TCPServer.new("127.0.0.1", ENV.fetch("METRICS_PORT", "9394").to_i)
    Thread.new do
      loop do
        client = server.accept
        client.readpartial(4096)
        page = "# TYPE sidekiq_jobs_in_flight gauge\nsidekiq_jobs_in_flight #{BUSY.size}\n"
        client.write("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: #{page.bytesize}\r\nConnection: close\r\n\r\n#{page}")
        client.close
      rescue SystemCallError, EOFError
        client&.close
      end
    end
  end
end
