#!/usr/bin/env bash
# What `make bench` needs beyond `make setup`: libvirt's daemon and client, for the comparison. Nothing of it is
# started here: the bench runs its own two daemons inside the lab's hosts.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh

say() { printf 'bench: %s\n' "$*"; }
die() {
    printf 'bench: %s\n' "$*" >&2
    exit 1
}

root=()
[ "$(id -u)" -eq 0 ] || root=(sudo)
wanted=(libvirt-daemon libvirt-daemon-driver-qemu libvirt-clients)

keep_services_off() { # replaces the one of packages.sh: no libvirt daemon may start because it was installed
    [ -e "$policy_file" ] && ! grep -qF "$policy_mark" "$policy_file" && return
    printf '#!/bin/sh\n%s\ncase "$1" in *virt*) exit 101 ;; esac\nexit 0\n' "$policy_mark" |
        "${root[@]}" tee "$policy_file" >/dev/null
    "${root[@]}" chmod 755 "$policy_file"
}

switch_off() { # where a service manager runs it must not start them at the next boot either
    if ! command -v systemctl >/dev/null; then return; fi
    local unit
    for unit in libvirtd.service libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket virtlogd.socket virtlockd.socket; do
        "${root[@]}" systemctl --quiet disable "$unit" 2>/dev/null || true
    done
}

missing=()
for name in "${wanted[@]}"; do
    [ -n "$(installed_version "$name")" ] || missing+=("$name")
done
[ "${#missing[@]}" -gt 0 ] || exit 0

command -v apt-get >/dev/null || die "no apt-get here; install libvirtd and virsh by hand, or run: python -m bench --without-libvirt"
say "installing ${missing[*]} (nothing of it is started)"
refresh_package_lists
trap services_allowed_again EXIT
keep_services_off
apt install --yes --no-install-recommends "${missing[@]}"
switch_off
