# Puma with its control server, and Sidekiq, from a Debian newer than the one here: root, and debootstrap, are needed.
ruby=$cache/trixie-with-sidekiq
[[ -e $ruby/done ]] || { debootstrap --variant=minbase --include=puma,ruby-sidekiq,redis-server trixie "$ruby" >&2 && touch "$ruby/done"; }
cp "$here/config.ru" "$ruby/tmp/config.ru"
port=$(free) control=$(free)
chroot "$ruby" env -C /tmp PWD=/tmp puma -b "tcp://127.0.0.1:$port" --control-url "tcp://127.0.0.1:$control" --control-token token -t 2:4 config.ru >"$work/puma.log" & pids+=($!)
await curl -fsS "http://127.0.0.1:$port/"
record puma "$(chroot "$ruby" puma --version)" "http://127.0.0.1:$control/stats?token=token" "http://127.0.0.1:$port/"

# Sidekiq 7 with Redis and the lines of sidekiq.rb.
cp "$here/sidekiq.rb" "$ruby/tmp/sidekiq.rb"
cat >"$ruby/tmp/job.rb" <<'RUBY'
require_relative "sidekiq"
class Work
  include Sidekiq::Job
  def perform(seconds) = sleep(seconds)
end
RUBY
redis=$(free) metrics=$(free)
in_ruby=(chroot "$ruby" env -C /tmp PWD=/tmp METRICS_PORT="$metrics" REDIS_URL="redis://127.0.0.1:$redis/0")
"${in_ruby[@]}" redis-server --bind 127.0.0.1 --port "$redis" --save '' >"$work/redis.log" & pids+=($!)
await "${in_ruby[@]}" redis-cli -p "$redis" ping
"${in_ruby[@]}" sidekiq -c 2 -r ./job.rb >"$work/sidekiq.log" 2>&1 & pids+=($!)
await curl -fsS "http://127.0.0.1:$metrics/metrics"
ask() { "${in_ruby[@]}" ruby -r ./job.rb -e 'Work.perform_async(Float(ARGV[0]))' "$1"; }
record sidekiq "$("${in_ruby[@]}" sidekiq --version)" "http://127.0.0.1:$metrics" 0 60
ask() { curl -fsS "$1"; }
