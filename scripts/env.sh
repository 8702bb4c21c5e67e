# Sourced by the other scripts: makes .venv with the package in it, once; later runs find it ready.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export NO_ALBUMENTATIONS_UPDATE=1 PIP_DISABLE_PIP_VERSION_CHECK=1

python_for_venv() {
    local candidate
    for candidate in "${PYTHON:-}" python3.13 python3.12 python3.11 python3 python; do
        if [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "imgsynth needs Python 3.11 or newer; none was found (set PYTHON=/path/to/python)" >&2
    exit 2
}

# make_env EXTRA…: install the package with these extras unless pyproject.toml is unchanged since last time.
make_env() {
    local extras stamp mark
    extras=$(IFS=,; echo "$*")
    stamp="$(sha256sum pyproject.toml | cut -d' ' -f1) $extras"
    mark=.venv/.imgsynth-"${extras:-core}"
    if [ ! -x .venv/bin/python ]; then
        "$(python_for_venv)" -m venv .venv
    fi
    if [ ! -f "$mark" ] || [ "$(cat "$mark")" != "$stamp" ]; then
        echo "installing into .venv (the first time this takes some minutes)" >&2
        .venv/bin/python -m pip install -q --upgrade pip
        .venv/bin/python -m pip install -q -e ".${extras:+[$extras]}"
        echo "$stamp" >"$mark"
    fi
}
