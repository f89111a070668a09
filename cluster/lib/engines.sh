# shellcheck shell=bash
# The cluster's own Redis and PostgreSQL: loopback only, data in the state folder.

redis_pid() { pid_in "$STATE/redis.pid" "redis-server 127.0.0.1:$(port_of "$REDIS_URL")"; }
postgres_pid() { pid_in "$STATE/postgres.pid" "-D $(postgres_data) "; }

# Where PostgreSQL's files really lie.
postgres_data() { readlink -f "$STATE/postgres"; }

# engine_port NAME URL WANTED: the port to start an engine on. A cluster that exists keeps its port, because its running
# nodes know only that one.
engine_port() {
    local name=$1 url=$2 wanted=$3 port
    if [ -n "$url" ]; then
        port=$(port_of "$url")
        if [ -n "$wanted" ] && [ "$wanted" != "$port" ]; then
            if any_node_runs; then die "$name of the running cluster is on port $port: ./cluster/down first"; fi
            port=$wanted
        elif [ -z "$wanted" ] && port_stays_taken "$port" && ! any_node_runs; then
            warn "port $port, where $name was, is taken by $(port_owner "$port"): choosing another" >&2
            port=$(free_port)
        fi
    else
        port=${wanted:-$(free_port)}
    fi
    if port_stays_taken "$port"; then die "port $port for $name is taken by $(port_owner "$port")"; fi
    printf '%s' "$port"
}

start_redis() {
    local port=$1 data=$STATE/redis log=$STATE/redis.log pid had='' version
    if [ -d "$data/appendonlydir" ]; then had=' with its data'; fi
    version=$(redis-server --version | sed -nE 's/.* v=([0-9]+)\..*/\1/p')
    if [ "${version:-7}" -lt 7 ]; then die "Redis $version is too old ($(command -v redis-server)): 7.0 or later is needed"; fi
    mkdir -p "$data"
    setsid redis-server --port "$port" --bind 127.0.0.1 --dir "$data" --daemonize no \
        --appendonly yes --appendfsync everysec --save '' --maxmemory-policy noeviction \
        >>"$log" 2>&1 </dev/null 9>&- &
    pid=$!
    printf '%s\n' "$pid" >"$STATE/redis.pid"
    REDIS_URL=redis://127.0.0.1:$port
    local tenths=600
    until redis-cli -h 127.0.0.1 -p "$port" ping 2>/dev/null | grep -q PONG; do
        tenths=$((tenths - 1))
        if ! lives "$pid" || [ "$tenths" -le 0 ]; then
            tail_of "$log"
            die "Redis did not start"
        fi
        sleep 0.1
    done
    good "Redis on 127.0.0.1:$port$had"
}

# Runs a command as the user that PostgreSQL accepts: ourselves, or `postgres` where we are root (it refuses root).
as_postgres() {
    cd /
    if [ "$(id -u)" -eq 0 ]; then
        exec setpriv --reuid=postgres --regid=postgres --init-groups -- env HOME=/ "$@"
    fi
    exec "$@"
}

# Makes the data folder. Where root's `postgres` user cannot get to the state folder, the data goes below /var/lib and
# the state folder holds a link to it.
make_postgres_folder() {
    local data=$STATE/postgres
    if [ -L "$data" ] && [ -d "$data" ]; then return 0; fi
    rm -f "$data" 2>/dev/null || true
    mkdir -p "$data"
    chmod 700 "$data"
    [ "$(id -u)" -eq 0 ] || return 0
    id postgres >/dev/null 2>&1 || useradd --system --home-dir / --shell /usr/sbin/nologin postgres
    chown postgres: "$data"
    if ! (as_postgres test -w "$data") 2>/dev/null; then
        [ -z "$(ls -A "$data")" ] || die "PostgreSQL's user cannot reach its data in $data: open the folders above it"
        rmdir "$data"
        local elsewhere
        elsewhere=/var/lib/fanfare/$(basename "$(dirname "$STATE")")-$(printf '%s' "$STATE" | sha256sum | cut -c1-12)
        mkdir -p "$elsewhere"
        chown postgres: "$elsewhere"
        chmod 700 "$elsewhere"
        ln -s "$elsewhere" "$data"
        warn "the user postgres cannot enter $STATE: PostgreSQL's data lies in $elsewhere (linked; \`down --wipe\` removes it)"
    fi
}

start_postgres() {
    local port=$1 bin data log=$STATE/postgres.log pid password had='' tenths
    bin=$(postgres_bin)
    make_postgres_folder
    data=$(postgres_data)
    password=${DATABASE_URL#*://fanfare:}
    password=${password%%@*}
    local known=$password
    [ -n "$password" ] || password=$(random_hex 24)
    # Kept before anything is made with it: whatever ends this run, the next one must know the password.
    DATABASE_URL=postgres://fanfare:$password@127.0.0.1:$port/fanfare
    save_env
    if [ -e "$STATE/postgres.unfinished" ]; then
        warn "PostgreSQL's data folder was left half made: making it anew"
        (as_postgres find "$data" -mindepth 1 -delete)
    fi
    if (as_postgres test -s "$data/PG_VERSION"); then
        had=' with its data'
        forget_dead_postmaster "$data"
        if [ -z "$known" ]; then
            warn "the password of PostgreSQL's data was lost: setting a new one"
            set_password "$bin" "$data" "$password" >>"$log" 2>&1 || {
                tail_of "$log"
                die "PostgreSQL's password could not be set"
            }
        fi
    else
        make_data "$bin" "$data" "$password"
    fi
    # The further turns are for a server whose predecessor's children have not all gone yet.
    for _ in 1 2 3; do
        (as_postgres setsid "$bin/postgres" -D "$data" -p "$port" -c listen_addresses=127.0.0.1 \
            -c unix_socket_directories= -c max_connections=200) >>"$log" 2>&1 </dev/null 9>&- &
        pid=$!
        printf '%s\n' "$pid" >"$STATE/postgres.pid"
        tenths=600
        until "$bin/pg_isready" -q -h 127.0.0.1 -p "$port" || ! lives "$pid" || [ "$tenths" -le 0 ]; do
            tenths=$((tenths - 1))
            sleep 0.1
        done
        if lives "$pid"; then break; fi
        sleep 1
    done
    if ! lives "$pid" || ! "$bin/pg_isready" -q -h 127.0.0.1 -p "$port"; then
        tail_of "$log"
        die "PostgreSQL did not start"
    fi
    if ! make_database "$bin" "$port" "$password" >>"$log" 2>&1; then
        tail_of "$log"
        die "PostgreSQL runs, but its database \`fanfare\` could not be made"
    fi
    good "PostgreSQL on 127.0.0.1:$port$had"
}

# make_data BIN FOLDER PASSWORD: initdb. What a run that was killed leaves is marked, and made anew by the next one.
make_data() {
    local secret status=0
    secret=$(mktemp)
    printf '%s\n' "$3" >"$secret"
    if [ "$(id -u)" -eq 0 ]; then chown postgres: "$secret"; fi
    : >"$STATE/postgres.unfinished"
    (as_postgres "$1/initdb" -D "$2" -U fanfare --pwfile="$secret" --auth=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8) \
        >>"$STATE/postgres.log" 2>&1 </dev/null || status=$?
    rm -f "$secret"
    if [ "$status" -ne 0 ]; then
        tail_of "$STATE/postgres.log"
        die "PostgreSQL's data folder could not be made"
    fi
    rm -f "$STATE/postgres.unfinished"
}

# A file left by a server that was killed may name a process id that by now is someone else's.
forget_dead_postmaster() {
    if ! (as_postgres head -n 1 "$1/postmaster.pid") 2>/dev/null >"$STATE/postmaster.pid" ||
        ! pid_in "$STATE/postmaster.pid" "postgres" >/dev/null; then
        (as_postgres rm -f "$1/postmaster.pid")
    fi
    rm -f "$STATE/postmaster.pid"
}

# set_password BIN FOLDER PASSWORD: without a server that runs.
set_password() {
    (as_postgres "$1/postgres" --single -D "$2" postgres) <<<"ALTER ROLE fanfare PASSWORD '$3'"
}

# make_database BIN PORT PASSWORD
make_database() {
    local connection="host=127.0.0.1 port=$2 user=fanfare dbname=postgres" psql=$1/psql there
    [ -x "$psql" ] || psql=psql
    there=$(PGPASSWORD=$3 "$psql" -X -At "$connection" -c "SELECT 1 FROM pg_database WHERE datname = 'fanfare'") || return 1
    if [ "$there" != 1 ]; then PGPASSWORD=$3 "$psql" -X -q "$connection" -c 'CREATE DATABASE fanfare'; fi
}

# Starts the engines that do not run. Says which were found dead.
ensure_engines() {
    local port dead
    if redis_pid >/dev/null; then
        say "Redis runs on 127.0.0.1:$(port_of "$REDIS_URL")"
    else
        dead=''
        if [ -e "$STATE/redis.pid" ]; then dead=yes; fi
        port=$(engine_port Redis "$REDIS_URL" "$1")
        if [ -n "$dead" ]; then warn "Redis had died: starting it again"; fi
        STARTED_ENGINES+=(redis)
        start_redis "$port"
        save_env
    fi
    # Nobody knows its password any more, so that no node can be using it: the next start sets a new one.
    if [ -z "$DATABASE_URL" ]; then stop_postgres; fi
    if postgres_pid >/dev/null; then
        say "PostgreSQL runs on 127.0.0.1:$(port_of "$DATABASE_URL")"
    else
        dead=''
        if [ -e "$STATE/postgres.pid" ]; then dead=yes; fi
        port=$(engine_port PostgreSQL "$DATABASE_URL" "$2")
        if [ -n "$dead" ]; then warn "PostgreSQL had died: starting it again"; fi
        STARTED_ENGINES+=(postgres)
        start_postgres "$port"
        save_env
    fi
}

stop_redis() {
    local pid
    if pid=$(redis_pid); then
        kill -TERM "$pid"
        wait_gone "$pid" 300 || kill -KILL "$pid"
        say "Redis stopped"
    fi
    rm -f "$STATE/redis.pid"
}

stop_postgres() {
    local pid
    if pid=$(postgres_pid); then
        kill -INT "$pid"
        wait_gone "$pid" 300 || kill -QUIT "$pid"
        say "PostgreSQL stopped"
    fi
    rm -f "$STATE/postgres.pid"
}
