#!/bin/sh
# Builds dist/libpeerbus.so (shared), dist/libpeerbus.a (static), dist/peerbus.h, and the accelerator of the Python package for
# $PYTHON (python3), if its headers are there. Needs Go 1.26 and a C compiler.
# PEERBUS_BUILD=shared builds the shared library only.
set -eu
cd "$(dirname "$0")"
mkdir -p dist
export CGO_ENABLED=1

# The dynamic symbol table holds what the header declares, nothing else.
{
    echo '{ global:'
    sed -n 's/^[a-z].*[ *]\([A-Za-z_][A-Za-z_0-9]*\)(.*/    \1;/p' include/peerbus.h
    echo '  local: *; };'
} > dist/peerbus.map

tags=netgo,osusergo
link='-Wl,--version-script=dist/peerbus.map -Wl,-soname,libpeerbus.so.0 -Wl,-z,nodelete -Wl,-z,relro -Wl,-z,now -Wl,--wrap=pthread_create'
case "$(go env GOOS)" in
darwin) link='-Wl,-install_name,@rpath/libpeerbus.so' ;;
esac
map="$PWD/dist/peerbus.map"
link=$(printf '%s' "$link" | sed "s|dist/peerbus.map|$map|")

go build -trimpath -tags "$tags" -buildmode=c-shared -ldflags "-s -w '-extldflags=$link'" -o dist/libpeerbus.so ./export
if [ "${PEERBUS_BUILD:-all}" = all ]; then
    go build -trimpath -tags "$tags" -buildmode=c-archive -ldflags "-s -w" -o dist/libpeerbus.a ./export
fi
rm -f dist/libpeerbus.h dist/peerbus.map
ln -sf libpeerbus.so dist/libpeerbus.so.0
cp include/peerbus.h dist/peerbus.h
bindings/python/accelerator/build.sh
