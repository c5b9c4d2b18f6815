# shellcheck shell=bash
# process.sh: daemons without an init system. Sourced by `cluster`.
# run/NAME.pid holds "pid start-time": a pid that the kernel gave to another process since is never taken for ours.

born() { awk '{print $22}' "/proc/$1/stat" 2>/dev/null; } # PID: start time in clock ticks since boot

running_pid() { # NAME: prints the pid if that very process still runs
  local pid time
  read -r pid time 2>/dev/null <"$STATE/run/$1.pid" && [[ -n $time && $(born "$pid") == "$time" ]] && echo "$pid"
}

STARTED=() # by this command
start_process() { # NAME COMMAND...
  local name=$1 pid
  shift
  if pid=$(running_pid "$name"); then say "$name already runs (pid $pid)"; return; fi
  # 9 is the lock of `up`; a daemon that kept it open would hold the lock for as long as it lives.
  # Before other work of the machine: a node that waits for a compiler measures the compiler.
  setsid nice -n -10 "$@" >>"$STATE/log/$name.log" 2>&1 </dev/null 9>&- &
  pid=$!
  echo "$pid $(born "$pid")" >"$STATE/run/$name.pid"
  STARTED+=("$name")
}

stop_process() { # NAME: SIGTERM, SIGKILL after 10 s
  local pid
  if pid=$(running_pid "$1"); then
    kill "$pid" 2>/dev/null || true
    poll 10 process_gone "$1" || kill -9 "$pid" 2>/dev/null || true
    say "stopped $1"
  fi
  rm -f "$STATE/run/$1.pid"
}
process_gone() { ! running_pid "$1" >/dev/null; }

poll() { # SECONDS COMMAND...: true as soon as the command is, false when the time is over
  local tries=$(($1 * 10))
  shift
  until "$@" >/dev/null 2>&1; do
    ((tries-- > 0)) || return 1
    sleep 0.1
  done
}

wait_for() { # SECONDS WHAT COMMAND...: what does not come says why: at once when a daemon has ended, else within half a minute
  local seconds=$1 what=$2 begin=$SECONDS said='' name
  shift 2
  until poll 1 "$@"; do
    name=$(ended)
    [[ -z $name ]] || { last_words "$name"; die "$name has ended, so $what does not come; all of its log: $STATE/log/$name.log"; }
    if ((SECONDS - begin >= seconds)); then
      for name in "${COMPONENTS[@]}"; do last_words "$name"; done
      die "gave up after $seconds s waiting for $what; see $STATE/log"
    fi
    ((SECONDS - begin < 20)) || [[ -n $said ]] || { said=yes; for name in "${COMPONENTS[@]}"; do last_words "$name"; done; say "still waiting for $what"; }
  done
}
ended() { # the first daemon that was started and does not run
  local name
  for name in "${STARTED[@]}"; do
    running_pid "$name" >/dev/null || { echo "$name"; return; }
  done
}
last_words() { # NAME: the end of its log
  [[ ! -s $STATE/log/$1.log ]] || tail -n 2 "$STATE/log/$1.log" | cut -c1-300 | sed "s/^/cluster: $1 | /" >&2
}
