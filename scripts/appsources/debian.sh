# nginx, PHP-FPM behind it, Apache httpd.
debs=$cache/nginx-php
debian "$debs" nginx php8.2-fpm php8.2-cli php8.2-common
port=$(free)
cat >"$work/nginx.conf" <<NGINX
daemon off; pid $work/nginx.pid; error_log $work/nginx.log; user $(id -un);
events {}
http {
  access_log off;
  client_body_temp_path $work/b; proxy_temp_path $work/p; fastcgi_temp_path $work/f; uwsgi_temp_path $work/u; scgi_temp_path $work/s;
  server {
    listen 127.0.0.1:$port;
    location = /stub_status { stub_status; }
    location = /status { fastcgi_param QUERY_STRING \$query_string; fastcgi_param REQUEST_METHOD \$request_method; fastcgi_param SCRIPT_NAME \$fastcgi_script_name; fastcgi_param SCRIPT_FILENAME /status; fastcgi_pass unix:$work/fpm.sock; }
    location = /work { default_type text/plain; return 200 ok; }
    location = /slow { limit_rate 1k; root $work; }
    location = /php { fastcgi_param QUERY_STRING \$query_string; fastcgi_param REQUEST_METHOD \$request_method; fastcgi_param SCRIPT_NAME \$fastcgi_script_name; fastcgi_param SCRIPT_FILENAME $work/work.php; fastcgi_pass unix:$work/fpm.sock; }
  }
}
NGINX
head -c 8M /dev/zero >"$work/slow"
echo '<?php usleep((int)(1e6 * ($_GET["seconds"] ?? 0))); echo "ok";' >"$work/work.php"
cat >"$work/fpm.conf" <<FPM
[global]
error_log = $work/fpm.log
[www]
listen = $work/fpm.sock
listen.mode = 0666
user = $(id -un)
pm = static
pm.max_children = 4
pm.status_path = /status
FPM
"$debs/usr/sbin/nginx" -c "$work/nginx.conf" & pids+=($!)
await curl -fsS "http://127.0.0.1:$port/stub_status"
record nginx "$("$debs/usr/sbin/nginx" -v 2>&1 | sed 's/.*: //')" "http://127.0.0.1:$port" "http://127.0.0.1:$port/work" "http://127.0.0.1:$port/slow"
"$debs/usr/sbin/php-fpm8.2" -n -R -F -y "$work/fpm.conf" & pids+=($!)
await curl -fsS "http://127.0.0.1:$port/status"
record php-fpm "PHP $("$debs/usr/sbin/php-fpm8.2" -n -v | awk 'NR==1 {print $2}')" "http://127.0.0.1:$port" "http://127.0.0.1:$port/php"

httpd=$cache/apache
debian "$httpd" apache2-bin libapr1 libaprutil1
export LD_LIBRARY_PATH=$(echo "$httpd"/usr/lib/*-linux-gnu)
port=$(free)
modules=$httpd/usr/lib/apache2/modules
cat >"$work/httpd.conf" <<APACHE
ServerRoot $work
ServerName localhost
User nobody
Group nogroup
PidFile $work/httpd.pid
ErrorLog $work/httpd.log
Listen 127.0.0.1:$port
LoadModule mpm_event_module $modules/mod_mpm_event.so
LoadModule authz_core_module $modules/mod_authz_core.so
LoadModule status_module $modules/mod_status.so
LoadModule env_module $modules/mod_env.so
LoadModule ratelimit_module $modules/mod_ratelimit.so
DocumentRoot $work
<Location /server-status>
  SetHandler server-status
</Location>
<Location /slow>
  SetOutputFilter RATE_LIMIT
  SetEnv rate-limit 4
</Location>
APACHE
echo ok >"$work/work"
"$httpd/usr/sbin/apache2" -f "$work/httpd.conf" -D FOREGROUND & pids+=($!)
await curl -fsS "http://127.0.0.1:$port/server-status?auto"
record apache "$("$httpd/usr/sbin/apache2" -v | awk 'NR==1 {print $3}')" "http://127.0.0.1:$port" "http://127.0.0.1:$port/work" "http://127.0.0.1:$port/slow"
unset LD_LIBRARY_PATH
