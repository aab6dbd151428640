#!/bin/sh
# Builds the accelerator into the package, for $PYTHON (python3): one file for all Pythons from 3.11 on, else one for that
# version. Without Python's headers (Debian: python3-dev) it says so and builds nothing: the package then uses ctypes.
set -eu
here=$(dirname "$0")
python=${PYTHON:-python3}
ask() { "$python" -c "import sys, sysconfig; print($1)"; }

include=$(ask 'sysconfig.get_path("include")')
if [ ! -f "$include/Python.h" ]; then
    echo "no accelerator for Python: $include/Python.h is missing (install python3-dev); the package works without, slower"
    exit 0
fi
if [ "$(ask 'sys.version_info >= (3, 11) and not sysconfig.get_config_var("Py_GIL_DISABLED")')" = True ]; then
    stable=-DPy_LIMITED_API=0x030B0000
    suffix=.abi3.so
else
    stable=
    suffix=$(ask 'sysconfig.get_config_var("EXT_SUFFIX")')
fi
case "$(uname)" in
Darwin) link='-undefined dynamic_lookup' ;;
*) link='-Wl,-z,relro -Wl,-z,now' ;;
esac

# Beside the file and then renamed: a program may have the one of before loaded.
# shellcheck disable=SC2086 # flags, none of which has spaces
${CC:-cc} -std=gnu11 -O2 -Wall -Wextra -fPIC -shared -fvisibility=hidden $stable $link \
    -I"$include" -I"$here/../../../include" "$here/module.c" "$here/record.c" "$here/loan.c" "$here/publish.c" "$here/calls.c" \
    -o "$here/../peerbus/.accelerator.$$"
mv "$here/../peerbus/.accelerator.$$" "$here/../peerbus/_accelerator$suffix"
