# shellcheck shell=bash
# Shared by every script in cluster/: where things lie, how they speak, processes and ports.
# shellcheck disable=SC2034 # used by the scripts that source this

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
STATE=${FANFARE_CLUSTER_DIR:-$ROOT/.cluster}
case $STATE in /*) ;; *) STATE=$PWD/$STATE ;; esac
ENV_FILE=$STATE/env

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then
    BOLD=$'\e[1m' DIM=$'\e[2m' GREEN=$'\e[32m' YELLOW=$'\e[33m' OFF=$'\e[0m'
else
    BOLD='' DIM='' GREEN='' YELLOW='' OFF=''
fi
RED=''
if [ -t 2 ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then RED=$'\e[31m'; fi

step() { printf '%s\n' "${BOLD}==>${OFF} $*"; }
say() { printf '%s\n' "    $*"; }
good() { printf '%s\n' "    ${GREEN}$*${OFF}"; }
warn() { printf '%s\n' "    ${YELLOW}$*${OFF}"; }
fail() { printf '%s\n' "${RED}error:${RED:+$'\e[0m'} $*" >&2; }
die() {
    fail "$@"
    exit 1
}

# Ends the script with its usage text: 64 is EX_USAGE of sysexits.h.
misuse() {
    fail "$1"
    usage >&2
    exit 64
}

is_number() { [[ $1 =~ ^(0|[1-9][0-9]{0,8})$ ]]; }
is_port() { is_number "$1" && [ "$1" -ge 1 ] && [ "$1" -le 65535 ]; }

# One script at a time works on a state folder.
take_lock() {
    mkdir -p "$STATE" 2>/dev/null || die "cannot make the folder $STATE: no permission? FANFARE_CLUSTER_DIR names another"
    { : >>"$STATE/lock"; } 2>/dev/null || die "cannot write to $STATE: run this as the user that started the cluster"
    exec 9>>"$STATE/lock"
    if ! flock -n 9; then
        say "another cluster command is at work in $STATE; waiting for it"
        flock 9
    fi
}

ENV_NAMES=(FANFARE_API_KEY FANFARE_TOKEN_SECRET REDIS_URL DATABASE_URL FANFARE_NODE_URLS FANFARE_BINARY)

# Reads the state's variables; returns 1 where there is no state yet.
load_env() {
    FANFARE_API_KEY='' FANFARE_TOKEN_SECRET='' REDIS_URL='' DATABASE_URL='' FANFARE_NODE_URLS='' FANFARE_BINARY=''
    [ -r "$ENV_FILE" ] || {
        if [ -e "$ENV_FILE" ]; then die "$ENV_FILE cannot be read: run this as the user that started the cluster"; fi
        return 1
    }
    if env_is_whole; then
        # shellcheck disable=SC1090
        . "$ENV_FILE"
    else
        mend_env
    fi
}

# A file cut short, by a full disk or an editor, must not pass for one with empty values.
env_is_whole() {
    local name
    bash -n "$ENV_FILE" 2>/dev/null || return 1
    for name in "${ENV_NAMES[@]}"; do grep -q "^$name=" "$ENV_FILE" || return 1; done
}

# Takes from a damaged file what is whole in it, and the rest from what runs.
mend_env() {
    local line name pid file number
    printf '%s\n' "    $ENV_FILE is damaged: taking what is missing from what runs" >&2
    while read -r line || [ -n "$line" ]; do
        for name in "${ENV_NAMES[@]}"; do
            if [[ $line =~ ^$name=\'([^\']*)\'$ ]]; then printf -v "$name" '%s' "${BASH_REMATCH[1]}"; fi
        done
    done <"$ENV_FILE"
    [ -n "$FANFARE_NODE_URLS" ] || FANFARE_NODE_URLS=$(known_urls)
    for file in "$STATE"/node-*.pid; do
        number=${file##*/node-}
        number=${number%.pid}
        pid=$(pid_in "$file" "--node-name node-$number") || continue
        [ -n "$FANFARE_BINARY" ] || FANFARE_BINARY=$(readlink "/proc/$pid/exe" || true)
        while IFS= read -r -d '' line; do
            name=${line%%=*}
            case $name in FANFARE_API_KEY | FANFARE_TOKEN_SECRET | REDIS_URL | DATABASE_URL)
                [ -n "${!name}" ] || printf -v "$name" '%s' "${line#*=}"
                ;;
            esac
        done <"/proc/$pid/environ"
    done
    if [ -z "$REDIS_URL" ] && pid=$(pid_in "$STATE/redis.pid" "redis-server 127.0.0.1:"); then
        line=$(command_line "$pid")
        line=${line##*127.0.0.1:}
        REDIS_URL=redis://127.0.0.1:${line%% *}
    fi
}

# The nodes' URLs, also while the cluster is down: `up` goes on with the same ones.
known_urls() { if [ -r "$STATE/nodes" ]; then tr '\n' ' ' <"$STATE/nodes"; fi; }

# shell_words WORD…: as one would type them.
shell_words() {
    local word text=''
    for word in "$@"; do
        if [[ $word =~ ^[A-Za-z0-9_./:@%+=,-]+$ ]]; then text+=" $word"; else text+=" $(printf '%q' "$word")"; fi
    done
    printf '%s' "${text# }"
}

# The path as it is typed from here.
shown() { case $1 in "$PWD"/*) printf '%s' "./${1#"$PWD"/}" ;; *) printf '%s' "$1" ;; esac }

# Writes the state's variables so that no reader ever sees half a file, and nobody else reads the secrets.
save_env() {
    local name fresh=$ENV_FILE.new
    rm -f "$fresh"
    (
        umask 077
        for name in "${ENV_NAMES[@]}"; do
            printf "%s='%s'\n" "$name" "${!name//\'/\'\\\'\'}"
        done >"$fresh"
    )
    mv -f "$fresh" "$ENV_FILE"
    if [ -n "$FANFARE_NODE_URLS" ]; then printf '%s\n' "$FANFARE_NODE_URLS" >"$STATE/nodes"; fi
}

random_hex() { od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'; }

# The port of the URL, which ends in `:port` or `:port/…`.
port_of() {
    local rest=${1##*:}
    printf '%s' "${rest%%/*}"
}

# --- processes ---------------------------------------------------------------------------------------------------------

# Whether the process lives; a zombie does not. Not judged by the command line, which is empty in the instant of an exec,
# and before a dying process has closed its sockets.
lives() {
    local line
    { read -r line <"/proc/$1/stat"; } 2>/dev/null || return 1
    case ${line##*) } in [ZX]*) return 1 ;; esac
}

# Whether the process is stopped (SIGSTOP).
is_paused() {
    local line
    { read -r line <"/proc/$1/stat"; } 2>/dev/null || return 1
    case ${line##*) } in T*) return 0 ;; *) return 1 ;; esac
}

# The command line of a process, words separated by blanks; empty for one that is gone, a zombie, or just replaced.
command_line() { tr '\0\n' '  ' 2>/dev/null <"/proc/$1/cmdline" || true; }

# pid_in FILE WORDS: prints the process id in the file if that process lives and its command line contains WORDS. A
# number that by now belongs to another process is not ours.
pid_in() {
    local pid line
    [ -r "$1" ] || return 1
    read -r pid <"$1" || [ -n "${pid:-}" ] || return 1
    is_number "$pid" || return 1
    line=$(command_line "$pid")
    case $line in *"$2"*) printf '%s' "$pid" ;; *) return 1 ;; esac
}

# Waits until the process has gone, at most so many tenths of a second.
wait_gone() {
    local tenths=$2
    while lives "$1"; do
        [ "$tenths" -gt 0 ] || return 1
        tenths=$((tenths - 1))
        sleep 0.1
    done
}

# --- ports -------------------------------------------------------------------------------------------------------------

# Lines of the kernel's socket table whose local port is $1: `state inode`.
sockets_on() {
    local hex
    hex=$(printf '%04X' "$1")
    cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk -v port=":$hex" '$2 ~ port "$" { print $4, $10 }'
}

# Whether the port stays taken: a process that was killed this instant may hold it for a moment more.
port_stays_taken() {
    for _ in 1 2 3 4 5; do
        port_is_listening "$1" || return 1
        sleep 0.1
    done
}

port_is_listening() { sockets_on "$1" | grep -q '^0A '; }

# Who listens on the port, as well as we may know.
port_owner() {
    local inode link pid
    inode=$(sockets_on "$1" | awk '$1 == "0A" { print $2; exit }')
    for link in /proc/[0-9]*/fd/*; do
        if [ "$(readlink "$link" 2>/dev/null)" = "socket:[$inode]" ]; then
            pid=${link#/proc/}
            pid=${pid%%/*}
            printf 'process %s (%s)' "$pid" "$(command_line "$pid" | cut -c1-80 | sed 's/ *$//')"
            return
        fi
    done
    printf 'a process of another user'
}

# A loopback port that nothing uses now, not even as the near end of a connection.
free_port() {
    local port
    for _ in {1..200}; do
        port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
        if [ -z "$(sockets_on "$port")" ]; then
            printf '%s' "$port"
            return
        fi
    done
    die "found no free port between 20000 and 32000"
}

tail_of() {
    [ -s "$1" ] || return 0
    fail "the last lines of $1:"
    tail -n "${2:-25}" "$1" | sed 's/^/    /' >&2
}
