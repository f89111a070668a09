# shellcheck shell=bash
# Sourced by every script of this folder, after `set -euo pipefail`.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
. "$(dirname "${BASH_SOURCE[0]}")/prerequisites.sh"
. "$(dirname "${BASH_SOURCE[0]}")/engines.sh"
. "$(dirname "${BASH_SOURCE[0]}")/nodes.sh"
