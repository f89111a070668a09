# shellcheck shell=bash
# The nodes: node N is the N-th URL of FANFARE_NODE_URLS, with node-N.pid and node-N.log in the state folder.

node_urls() { read -r -a URLS <<<"$FANFARE_NODE_URLS" || true; }

node_pid() { pid_in "$STATE/node-$1.pid" "serve --host 127.0.0.1 --port $(port_of "$2") --node-name node-$1"; }

# In a shell of its own: the caller may have more in URLS than runs yet.
any_node_runs() (
    node_urls
    for number in "${!URLS[@]}"; do
        if node_pid "$number" "${URLS[$number]}" >/dev/null; then exit 0; fi
    done
    exit 1
)

# The status of the readiness endpoint: 200, 503, or 000 where nobody answers.
readiness() {
    curl -s -o /dev/null -w '%{http_code}' --noproxy '*' --max-time 3 "$1/health/ready" 2>/dev/null || true
}

# start_node NUMBER URL: everything of the caller's environment that `serve` reads applies, except what the cluster
# decides itself.
start_node() {
    local number=$1 port log=$STATE/node-$1.log
    port=$(port_of "$2")
    if [ -f "$log" ] && [ "$(stat -c %s "$log")" -gt 33554432 ]; then mv -f "$log" "$log.1"; fi
    (
        cd "$ROOT" || exit 1
        ulimit -n "$(ulimit -H -n)" 2>/dev/null || true
        unset FANFARE_HOST FANFARE_PORT FANFARE_NODE_NAME FANFARE_NODE_URLS
        export REDIS_URL DATABASE_URL FANFARE_TOKEN_SECRET FANFARE_API_KEY
        exec setsid "$FANFARE_BINARY" serve --host 127.0.0.1 --port "$port" --node-name "node-$number"
    ) >>"$log" 2>&1 </dev/null 9>&- &
    printf '%s\n' "$!" >"$STATE/node-$number.pid"
}

# wait_ready SECONDS NUMBER…: until each of the nodes answers 200. Prints what happens; returns 1 with the log's end when
# one dies or time is up.
wait_ready() {
    local limit=$1 started=$SECONDS shown=$SECONDS number status
    local waiting=("${@:2}") left
    while [ "${#waiting[@]}" -gt 0 ]; do
        left=()
        for number in "${waiting[@]}"; do
            status=$(readiness "${URLS[$number]}")
            if [ "$status" = 200 ]; then
                good "node-$number is ready at ${URLS[$number]}"
                continue
            fi
            if ! pid=$(cat "$STATE/node-$number.pid" 2>/dev/null) || ! lives "$pid"; then
                tail_of "$STATE/node-$number.log"
                fail "node-$number has ended"
                return 1
            fi
            left+=("$number")
        done
        waiting=("${left[@]}")
        [ "${#waiting[@]}" -gt 0 ] || break
        if [ $((SECONDS - started)) -ge "$limit" ]; then
            number=${waiting[0]}
            tail_of "$STATE/node-$number.log"
            fail "node-$number is not ready after $limit s (${URLS[$number]}/health/ready says $(readiness "${URLS[$number]}"))"
            curl -s --noproxy '*' --max-time 3 "${URLS[$number]}/health/ready" | cut -c1-2000 >&2 || true
            return 1
        fi
        if [ $((SECONDS - shown)) -ge 5 ]; then
            say "waiting for node ${waiting[*]} ($((SECONDS - started)) s)"
            shown=$SECONDS
        fi
        sleep 0.2
    done
}

# stop_nodes NUMBER…: SIGTERM to all, so that they drain at the same time; SIGKILL for what is there after 15 s.
stop_nodes() {
    local number pid
    local -A running=()
    for number in "$@"; do
        if pid=$(node_pid "$number" "${URLS[$number]}"); then
            running[$number]=$pid
            kill -TERM "$pid" 2>/dev/null || true
            # A paused process would not hear it.
            kill -CONT "$pid" 2>/dev/null || true
        fi
    done
    for number in "${!running[@]}"; do
        pid=${running[$number]}
        if wait_gone "$pid" 150; then
            say "node-$number stopped"
        else
            kill -KILL "$pid" 2>/dev/null || true
            wait_gone "$pid" 50 || true
            warn "node-$number did not stop within 15 s: killed"
        fi
    done
    for number in "$@"; do rm -f "$STATE/node-$number.pid"; done
}
