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
    mkdir -p "$STATE" || die "cannot make $STATE"
    exec 9>"$STATE/lock" || die "cannot write to $STATE"
    if ! flock -n 9; then
        say "another cluster command is at work in $STATE; waiting for it"
        flock 9
    fi
}

# Reads the state's variables; returns 1 where there is no state yet.
load_env() {
    FANFARE_API_KEY='' FANFARE_TOKEN_SECRET='' REDIS_URL='' DATABASE_URL='' FANFARE_NODE_URLS='' FANFARE_BINARY=''
    [ -r "$ENV_FILE" ] || {
        if [ -e "$ENV_FILE" ]; then die "$ENV_FILE cannot be read: run this as the user that started the cluster"; fi
        return 1
    }
    # shellcheck disable=SC1090
    . "$ENV_FILE"
}

# Writes the state's variables so that no reader ever sees half a file, and nobody else reads the secrets.
save_env() {
    local name fresh=$ENV_FILE.new
    rm -f "$fresh"
    (
        umask 077
        for name in FANFARE_API_KEY FANFARE_TOKEN_SECRET REDIS_URL DATABASE_URL FANFARE_NODE_URLS FANFARE_BINARY; do
            printf "%s='%s'\n" "$name" "${!name//\'/\'\\\'\'}"
        done >"$fresh"
    )
    mv -f "$fresh" "$ENV_FILE"
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
