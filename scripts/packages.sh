# Sourced by scripts/setup: the system packages, and QEMU from backports where the release is too old; the browser
# that tests use.
# shellcheck shell=bash disable=SC2034,SC2154

packages=(qemu-system-x86 qemu-utils etcd-server bindfs iproute2 iputils-ping busybox-static cpio
    dnsmasq-base gcc libc6-dev python3-venv kmod genisoimage) # bindfs pulls in the fuse or fuse3 that fits it
commands=(qemu-system-x86_64 qemu-img etcd bindfs ip tc bridge ping busybox cpio dnsmasq gcc modinfo
    nsenter unshare python3 genisoimage)
browsers=(chromium chromium-browser google-chrome) # of which the tests take the first; see tests/browser/browsing.py
browser_package=chromium
qemu_wanted=9.1 # fast quick migration: mapped-ram with multifd and direct I/O; live migration runs from 7.2
backports_file=/etc/apt/sources.list.d/zugvogel-backports.sources
policy_file=/usr/sbin/policy-rc.d
policy_mark="# Written by Zugvogel's setup, removed at its end."

installed_version() { # nothing for a package that is not installed, which is no failure
    # shellcheck disable=SC2016  # dpkg's own placeholders
    { dpkg-query --show --showformat '${db:Status-Status} ${Version}' "$1" 2>/dev/null || true; } |
        sed -n 's/^installed //p'
}

is_new_enough() { # QEMU's Debian versions carry the epoch 1
    [ -n "$1" ] && dpkg --compare-versions "$1" ge "1:$qemu_wanted~"
}

missing_packages() {
    local name
    for name in "${packages[@]}"; do
        [ -n "$(installed_version "$name")" ] || printf '%s\n' "$name"
    done
}

apt() { "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@"; }

has_package_lists() { compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null; }

refresh_package_lists() {
    say "reading the package lists"
    apt update || die "apt-get update failed (see above): check network and apt sources, then run 'make setup' again"
}

suite_with_new_qemu() { # the suite that offers a QEMU new enough; nothing where there is none
    local version where
    while IFS='|' read -r _ version where; do
        if is_new_enough "${version// /}"; then
            read -r _ where _ <<<"$where" # "ADDRESS SUITE/COMPONENT ARCHITECTURE Packages"
            echo "${where%%/*}"
            return
        fi
    done < <(apt-cache madison qemu-system-x86)
}

signing_key_lines() { # signing_key_lines FILE: the Signed-By field of an apt source, an inline key included
    case "$1" in
    *.sources) awk '/^[Ss]igned-[Bb]y:/ { on = 1; print; next } on && /^[ \t]/ { print; next } on { exit }' "$1" ;;
    *) sed -n 's/^deb .*\[.*signed-by=\([^] ]*\).*/Signed-By: \1/p' "$1" | head -n1 ;;
    esac
}

add_backports() { # same mirror and key as the release itself
    local codename target uri entry
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    target=$(apt-get indextargets --format '$(CODENAME) $(REPO_URI) $(SOURCESENTRY)' \
        'Created-By: Packages' 'Component: main' | grep "^$codename " | head -n1) || true
    read -r _ uri entry <<<"$target"
    if [ -z "$codename" ] || [ -z "${uri:-}" ]; then return 1; fi
    say "QEMU of $codename is older than $qemu_wanted: adding $codename-backports ($backports_file)"
    {
        printf 'Types: deb\nURIs: %s\nSuites: %s-backports\nComponents: main\n' "$uri" "$codename"
        signing_key_lines "${entry%:*}"
    } | "${root[@]}" tee "$backports_file" >/dev/null
    apt update || true # a release without backports is no error; whether it helped is looked at next
}

keep_services_off() { # the agents start etcd themselves; the package must not start one beside them
    [ -e "$policy_file" ] && ! grep -qF "$policy_mark" "$policy_file" && return
    printf '#!/bin/sh\n%s\ncase "$1" in etcd*) exit 101 ;; esac\nexit 0\n' "$policy_mark" |
        "${root[@]}" tee "$policy_file" >/dev/null
    "${root[@]}" chmod 755 "$policy_file"
}

services_allowed_again() {
    if grep -qsF "$policy_mark" "$policy_file"; then "${root[@]}" rm -f "$policy_file"; fi
}

choose_qemu() { # prints apt's arguments for a QEMU new enough, or says that there is none
    local suite
    suite=$(suite_with_new_qemu)
    if [ -z "$suite" ]; then
        add_backports >&2 && suite=$(suite_with_new_qemu)
        if [ -z "$suite" ] && [ -e "$backports_file" ]; then
            "${root[@]}" rm -f "$backports_file"
            apt update >&2 || true
        fi
    fi
    if [ -n "$suite" ]; then
        printf '%s\n' --target-release "$suite"
    else
        say "no QEMU >= $qemu_wanted in this distribution: its own is used, without the fast quick migration" >&2
    fi
}

install_packages() {
    local missing qemu=() had_etcd
    mapfile -t missing < <(command -v dpkg-query >/dev/null && missing_packages)
    if ! command -v apt-get >/dev/null; then
        [ -z "$(missing_commands)" ] || die "no apt-get here; install these by hand: $(missing_commands)"
        return
    fi
    if [ "${#missing[@]}" -eq 0 ] && is_new_enough "$(installed_version qemu-system-x86)"; then
        has_package_lists || { need_root "reading package lists" && refresh_package_lists; } # for the cloud kernel
        return
    fi
    need_root "installing packages"
    had_etcd=$(installed_version etcd-server)
    refresh_package_lists
    mapfile -t qemu < <(is_new_enough "$(installed_version qemu-system-x86)" || choose_qemu)
    say "installing ${missing[*]:-qemu-system-x86 qemu-utils}"
    trap services_allowed_again EXIT
    keep_services_off
    apt install --yes --no-install-recommends "${qemu[@]}" qemu-system-x86 qemu-utils
    [ "${#missing[@]}" -eq 0 ] || apt install --yes --no-install-recommends "${missing[@]}"
    services_allowed_again
    if [ -z "$had_etcd" ] && command -v systemctl >/dev/null; then
        "${root[@]}" systemctl --quiet disable etcd.service 2>/dev/null || true
        if [ -d /run/systemd/system ]; then "${root[@]}" systemctl --quiet stop etcd.service || true; fi
    fi
}

installed_browser() { # its name; nothing where there is none
    local name
    for name in "${browsers[@]}"; do
        if command -v "$name" >/dev/null; then
            echo "$name"
            return
        fi
    done
}

install_browser() { # for `make test` alone: nothing else needs one
    [ -z "$(installed_browser)" ] || return 0
    command -v apt-get >/dev/null ||
        die "no apt-get here; install a browser by hand, one of these: ${browsers[*]}"
    need_root "installing $browser_package"
    has_package_lists || refresh_package_lists
    say "installing $browser_package: the tests of the web console look at it"
    if ! apt install --yes --no-install-recommends "$browser_package"; then
        refresh_package_lists # a mirror keeps the newest alone
        apt install --yes --no-install-recommends "$browser_package" ||
            die "no $browser_package could be installed (see above); install one of these by hand: ${browsers[*]}"
    fi
    [ -n "$(installed_browser)" ] || die "$browser_package is installed but starts nothing; install one of: ${browsers[*]}"
}
