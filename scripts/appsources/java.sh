# Spring Boot with Actuator and Micrometer's Prometheus registry.
spring=$cache/spring
boot=3.5.7
[[ -e $spring/done ]] || { mkdir -p "$spring" && mvn -q -B -f "$here/spring/pom.xml" dependency:copy-dependencies "-Dboot=$boot" "-DoutputDirectory=$spring/lib" >&2 && touch "$spring/done"; }
javac -parameters -cp "$spring/lib/*" -d "$work/spring" "$here/spring/App.java"
port=$(free)
java -XX:TieredStopAtLevel=1 -cp "$work/spring:$spring/lib/*" demo.App --server.port="$port" --server.address=127.0.0.1 --management.endpoints.web.exposure.include=prometheus >"$work/spring.log" & pids+=($!)
await curl -fsS "http://127.0.0.1:$port/actuator/prometheus"
version() { basename "$spring/lib/$1"-[0-9]*.jar .jar; }
record spring "$(version spring-boot), $(version micrometer-registry-prometheus)" "http://127.0.0.1:$port" "http://127.0.0.1:$port/work"
