run ->(env) { sleep(env["QUERY_STRING"][/seconds=([\d.]+)/, 1].to_f); [200, {"content-type" => "text/plain"}, ["ok"]] }
