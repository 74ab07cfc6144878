#!/bin/bash
# Builds a Debian package of this source tree: systemd/debian/build-deb.sh OUTPUT_DIRECTORY
#
# The package contains its Python dependencies in a virtual environment, which is made with the distribution's Python.
# So it fits the release on which it is built. Needs python3-venv, dpkg-dev, and a package index that pip can reach.
# Honours DEB_COMPRESS (gzip, xz, zstd, none) and SOURCE_DATE_EPOCH.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
project=$(dirname "$(dirname "$here")")
output=$(mkdir -p "${1:?where to put the package}" && cd "$1" && pwd)
python=/usr/bin/python3
home=/usr/lib/syncd # of the virtual environment
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
stage=$work/stage
chmod 755 "$work"

version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$project/syncd/__init__.py")
release=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
next=$("$python" -c 'import sys; print("%d.%d" % (sys.version_info[0], sys.version_info[1] + 1))')
[ -n "$version" ] || { echo "no __version__ in syncd/__init__.py" >&2; exit 1; }
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(date +%s)}
umask 022

# Build a copy, so that nothing is left behind in the source tree.
mkdir "$work/source"
cp -a "$project"/{pyproject.toml,README.md,syncd,systemd} "$work/source/"
cp -a "$project"/LICENSE* "$work/source/" 2>/dev/null || true

"$python" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --no-compile --no-warn-script-location \
    --root-user-action=ignore "$work/source[aws,fast]"
"$work/venv/bin/python" -m pip uninstall --quiet --yes --root-user-action=ignore pip setuptools 2>/dev/null || true

# pyvenv.cfg and the first line of each program contain the path of the environment: rewrite both.
libraries=$home/lib/python$release/site-packages
mkdir -p "$stage$home/bin" "$stage$libraries"
cp -a "$work/venv/lib/python$release/site-packages/." "$stage$libraries/"
# Of the AWS service descriptions, keep only those that the credential chain may need.
find "$stage$libraries/botocore/data" -mindepth 1 -maxdepth 1 -type d \
    ! -name sts ! -name sso ! -name sso-oidc ! -name signin -exec rm -rf {} +
find "$stage" -name __pycache__ -prune -exec rm -rf {} +
rm -f "$stage$libraries"/syncd-*.dist-info/direct_url.json # would name the directory of the build
ln -s "$python" "$stage$home/bin/python3"
printf 'home = /usr/bin\ninclude-system-site-packages = false\n' > "$stage$home/pyvenv.cfg"
cat > "$stage$home/bin/syncd" <<PROGRAM
#!$home/bin/python3 -I
import sys

from syncd.cli.app import main

sys.exit(main())
PROGRAM
chmod 755 "$stage$home/bin/syncd"
"$python" -m compileall -q -j 0 --invalidation-mode unchecked-hash -s "$stage" -p / "$stage$libraries"

mkdir -p "$stage/usr/bin" "$stage/usr/share/doc/syncd"
ln -s "$home/bin/syncd" "$stage/usr/bin/syncd"
install -D -m 644 -t "$stage/usr/lib/systemd/system" "$project"/systemd/syncd.service "$project"/systemd/syncd@.service
install -D -m 644 -t "$stage/usr/lib/systemd/user" "$project"/systemd/user/syncd.service
install -D -m 644 "$project/systemd/sysusers.conf" "$stage/usr/lib/sysusers.d/syncd.conf"
for text in README.md config.example.yaml docs/systemd.md; do
    [ ! -e "$project/$text" ] || install -m 644 "$project/$text" "$stage/usr/share/doc/syncd/"
done
[ ! -e "$project/LICENSE" ] || install -m 644 "$project/LICENSE" "$stage/usr/share/doc/syncd/copyright"
install -d -m 755 "$stage/etc/syncd"

mkdir "$stage/DEBIAN"
install -m 755 -t "$stage/DEBIAN" "$here"/{postinst,prerm,postrm}
sed -e "s/@VERSION@/$version/" -e "s/@ARCHITECTURE@/$(dpkg --print-architecture)/" \
    -e "s/@SIZE@/$(du -k -s "$stage/usr" | cut -f1)/" -e "s/@PYTHON@/$release/" -e "s/@NEXT@/$next/" \
    "$here/control" > "$stage/DEBIAN/control"

package=$output/syncd_${version}_$(dpkg --print-architecture).deb
dpkg-deb --root-owner-group -Z"${DEB_COMPRESS:-xz}" --build "$stage" "$package" > /dev/null
echo "$package"
