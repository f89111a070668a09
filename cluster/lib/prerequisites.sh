# shellcheck shell=bash
# What has to be on the machine: the Swift toolchain (checked), Debian packages (installed where missing).

# Finds `swift`, also where its installers put it without touching PATH; installs what an unpacked toolchain lacks to run
# and link; checks its version.
require_swift() {
    local place version
    if ! command -v swift >/dev/null 2>&1; then
        for place in "${SWIFTLY_BIN_DIR:-$HOME/.local/share/swiftly/bin}" /opt/swift/usr/bin /usr/local/swift/usr/bin; do
            if [ -x "$place/swift" ]; then
                PATH=$place:$PATH
                break
            fi
        done
    fi
    command -v swift >/dev/null 2>&1 || die "the Swift toolchain is missing (\`swift\` is not in PATH).
    Fanfare is built with Swift 6.3 or later. To get it:
      https://www.swift.org/install/linux/        (packages, tarballs and the installer \`swiftly\`)
    then run this again."
    install_packages toolchain
    version=$(swift --version 2>/dev/null | sed -n 's/.*Swift version \([0-9]*\.[0-9]*\).*/\1/p' | head -n 1)
    if [ -z "$version" ]; then die "\`swift --version\` does not work: $(command -v swift)"; fi
    if [ "${version%%.*}" -lt 6 ] || { [ "${version%%.*}" -eq 6 ] && [ "${version#*.}" -lt 3 ]; }; then
        die "Swift $version is too old ($(command -v swift)): 6.3 or later is needed, see https://www.swift.org/install/linux/"
    fi
}

# The folder with initdb and postgres of the newest PostgreSQL, 15 or later.
postgres_bin() {
    local folder
    folder=$(find /usr/lib/postgresql /usr/pgsql-* /usr/local/pgsql -maxdepth 3 -name initdb 2>/dev/null | sort -V | tail -n 1)
    if [ -z "$folder" ]; then folder=$(command -v initdb 2>/dev/null || true); fi
    [ -n "$folder" ] || return 1
    folder=$(dirname "$folder")
    [ -x "$folder/postgres" ] || return 1
    printf '%s' "$folder"
}

have_header() { [ -e "/usr/include/$1" ] || [ -e "/usr/local/include/$1" ]; }

# Prints the packages with the libraries that the toolchain's own programs do not find.
missing_toolchain_libraries() {
    local folder
    folder=$(dirname "$(readlink -f "$(command -v swift)")")
    ldd "$folder/swift-frontend" "$folder/swift-package" 2>/dev/null | awk '/not found/ { print $1 }' | sort -u |
        while read -r library; do
            case $library in
            libcurl.so.4) echo libcurl4 ;;
            libedit.so.2) echo libedit2 ;;
            libncurses.so.6 | libtinfo.so.6) echo libncurses6 ;;
            libsqlite3.so.0) echo libsqlite3-0 ;;
            libstdc++.so.6) echo libstdc++6 ;;
            libuuid.so.1) echo libuuid1 ;;
            libxml2.so.2) echo libxml2 ;;
            libz.so.1) echo zlib1g ;;
            esac
        done
}

# Prints the packages that are missing, for the purposes named: toolchain, build, run, test, bench.
missing_packages() {
    local purpose
    for purpose in "$@"; do
        case $purpose in
        toolchain)
            { command -v ld >/dev/null 2>&1 && have_header stdlib.h && [ -d /usr/include/c++ ]; } || echo g++ libc6-dev
            missing_toolchain_libraries
            ;;
        run)
            command -v redis-server >/dev/null 2>&1 || echo redis-server
            postgres_bin >/dev/null || echo postgresql
            command -v psql >/dev/null 2>&1 || echo postgresql-client
            command -v curl >/dev/null 2>&1 || echo curl
            ;;
        build)
            have_header hiredis/hiredis.h || echo libhiredis-dev
            have_header postgresql/libpq-fe.h || have_header libpq-fe.h || echo libpq-dev
            command -v pkg-config >/dev/null 2>&1 || echo pkg-config
            command -v git >/dev/null 2>&1 || echo git
            [ -d /etc/ssl/certs ] || echo ca-certificates
            ;;
        test) python3 -c 'import venv, ensurepip' >/dev/null 2>&1 || echo python3 python3-venv ;;
        bench)
            command -v gcc >/dev/null 2>&1 || echo gcc libc6-dev
            command -v python3 >/dev/null 2>&1 || echo python3
            ;;
        esac
    done
}

# Installs what is missing for the purposes named. Freshly installed engines are not started as system services: the
# cluster runs its own.
install_packages() {
    local packages as_root=() log=$STATE/packages.log policy
    read -r -d '' -a packages < <(missing_packages "$@" && printf '\0') || true
    [ "${#packages[@]}" -gt 0 ] || return 0
    if ! command -v apt-get >/dev/null 2>&1; then
        die "missing: ${packages[*]} (names of Debian packages). There is no apt-get here: please install them yourself."
    fi
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null 2>&1 ||
            die "missing packages: ${packages[*]}. Run this as root, or: apt-get install ${packages[*]}"
        as_root=(sudo)
    fi
    step "Installing Debian packages: ${packages[*]}"
    mkdir -p "$STATE"
    : >"$log"
    if ! "${as_root[@]}" apt-get update >>"$log" 2>&1; then
        warn "apt-get update had trouble (see $log); trying with the package lists at hand"
    fi
    local status=0
    (
        policy=/usr/sbin/policy-rc.d
        if [ ! -e "$policy" ]; then
            trap '"${as_root[@]}" rm -f "$policy"' EXIT
            printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
            "${as_root[@]}" chmod 755 "$policy"
        fi
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y --no-install-recommends "${packages[@]}" >>"$log" 2>&1 </dev/null
    ) || status=$?
    if [ "$status" -ne 0 ]; then
        tail_of "$log"
        die "the packages could not be installed: is there a network? To do it by hand: apt-get install ${packages[*]}"
    fi
    good "installed"
}

# build CONFIGURATION [swift build's options…]: builds with a line of progress; all output goes to build.log.
build() {
    local configuration=$1 log=$STATE/build.log started=$SECONDS pid status=0 line last='' shown=0
    shift
    mkdir -p "$STATE"
    step "Building ($configuration${*:+, $*}); the first time takes some minutes"
    (
        cd "$ROOT" || exit 1
        # Without the check, a target finds what happens to be built already, whether it depends on it or not.
        exec swift build -c "$configuration" --explicit-target-dependency-import-check error "$@"
    ) >"$log" 2>&1 </dev/null 9>&- &
    pid=$!
    trap 'kill "$pid" 2>/dev/null || true; exit 130' INT TERM
    while kill -0 "$pid" 2>/dev/null; do
        line=$(tail -c 2000 "$log" | tr '\r' '\n' | grep -E '^\[[0-9]+/[0-9]+\]|^(Fetching|Computing|Creating|Updating|Cloning)' | tail -n 1 | cut -c1-90) || true
        if [ -t 1 ]; then
            printf '\r\e[K    %s%4d s  %s%s' "$DIM" $((SECONDS - started)) "$line" "$OFF"
        elif [ $((SECONDS - shown)) -ge 20 ] && [ "$line" != "$last" ]; then
            say "$((SECONDS - started)) s  $line"
            shown=$SECONDS last=$line
        fi
        sleep 0.5
    done
    trap - INT TERM
    wait "$pid" || status=$?
    if [ -t 1 ]; then printf '\r\e[K'; fi
    if [ "$status" -ne 0 ]; then
        if grep -qiE 'could not resolve host|unable to access|failed to clone|failed to connect|network is unreachable' "$log"; then
            fail "the first build fetches packages from github.com, which could not be reached"
        fi
        if ! grep -E 'error:' "$log" | sort -u | head -n 20 | cut -c1-300 | sed 's/^/    /' >&2; then tail_of "$log"; fi
        die "the build failed; all of its output is in $log"
    fi
    good "built in $((SECONDS - started)) s"
}
