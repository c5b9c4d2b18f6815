# A job for Sidekiq that writes down that it began and that it ended: sidekiq -r ./job.rb; ruby job.rb JOBS SECONDS puts some into the queue.
require "sidekiq"

BROKER = {url: "unix:///run/broker/redis.sock"}
Sidekiq.configure_server { |config| config.redis = BROKER }
Sidekiq.configure_client { |config| config.redis = BROKER }

class Work
  include Sidekiq::Job

  def perform(job, seconds)
    Sidekiq.redis { |store| store.call("RPUSH", "began", job) }
    sleep seconds
    Sidekiq.redis { |store| store.call("RPUSH", "ended", job) }
  end
end

ARGV[0].to_i.times { |job| Work.perform_async(job, ARGV[1].to_f) } if $PROGRAM_NAME == __FILE__
