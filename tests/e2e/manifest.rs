//! What a host is, as far as anything that vprov does could have changed it, told by the host's own programs.

use std::collections::BTreeSet;

use crate::program::Output;

/// Prints one line for each thing. What changes by itself is left out: logs, caches, systemd's own memory, times, sessions;
/// and vprov's own state. Of a generated menu what it would boot counts, and not its bytes.
const SCRIPT: &str = r#"
set -eu
export LC_ALL=C
command -v getfattr >/dev/null || { echo "no getfattr on this host; its package is attr" >&2; exit 1; }
dirs=
for dir in /etc /boot /var /srv /mnt /usr/local; do [ ! -d $dir ] || dirs="$dirs $dir"; done
kept() {
    find $dirs -xdev \( -path /var/lib/vprov -o -path /var/log -o -path /var/cache -o -path /var/tmp -o -path /var/lib/systemd \
        -o -path /etc/.pwd.lock \) -prune -o "$@"
}
kept -printf 'file %p %y %m %U:%G %l\n'
kept -type f ! -path '/boot/grub*/grub.cfg' -print0 | xargs -0 -r sha256sum | awk '{ print "content", substr($0, 67), $1 }'
kept -print0 | xargs -0 -r getfattr -h -d -m - -e hex --absolute-names |
    awk '/^# file: / { file = substr($0, 9); next } NF { print "attribute", file, $0 }'
for menu in /boot/grub/grub.cfg /boot/grub2/grub.cfg; do
    [ ! -f $menu ] || awk -v menu=$menu '$1 ~ /^(menuentry|submenu|linux|initrd|multiboot2?|module2?)$/ { print "menu", menu, ++n, $0 }' $menu
done
for value in /proc/sys/vm/* /proc/sys/fs/aio-max-nr /sys/kernel/mm/transparent_hugepage/enabled /sys/kernel/mm/transparent_hugepage/defrag \
    /sys/kernel/mm/hugepages/*/nr_hugepages /sys/kernel/mm/ksm/run /sys/kernel/mm/ksm/pages_to_scan \
    /sys/kernel/mm/ksm/sleep_millisecs /sys/kernel/mm/ksm/merge_across_nodes /sys/block/*/queue/scheduler; do
    [ ! -f $value ] || echo value $value $(cat $value 2>/dev/null | tr '\n' ' ')
done
findmnt -rn -o TARGET,FSTYPE,OPTIONS | sed 's/^/mount /' | grep -v '^mount /run/user/'
[ -d /run/systemd/system ] || exit 0
systemctl list-unit-files --plain --no-legend --no-pager | awk '{ print "unit file", $1, $2 }'
systemctl list-units --all --plain --no-legend --no-pager |
    awk '$3 != "inactive" && $1 !~ /[.](scope|device)$|^user|^ssh@|^run-/ { print "unit", $1, $3, $4 }'
systemctl show --no-pager --property=Id,NeedDaemonReload '*' |
    awk -F= '$1 == "Id" { id = $2 } $0 == "NeedDaemonReload=yes" { print "unit to be read again", id }'
"#;

/// Files below /etc, /boot, /var, /srv, /mnt and /usr/local with type, mode, owner, attributes and content; the entries of a menu; live
/// values; mounts; unit files and units.
#[derive(Clone, PartialEq, Eq)]
pub struct Manifest {
    lines: BTreeSet<String>,
}

impl Manifest {
    /// Asks a host; `run` runs a command line there as root.
    #[track_caller]
    pub fn of(run: impl Fn(&str) -> Output) -> Manifest {
        let output = run(SCRIPT).exits(0);
        let lines: BTreeSet<String> = output.stdout.lines().map(str::to_owned).collect();
        for what in ["file /etc/hostname ", "content /etc/hostname ", "value /proc/sys/vm/swappiness ", "mount / "] {
            assert!(lines.iter().any(|line| line.starts_with(what)), "a manifest without `{what}`: {output:?}");
        }
        Manifest { lines }
    }

    /// Fails, with what differs, unless this is how the host was.
    #[track_caller]
    pub fn is_as(&self, before: &Manifest) {
        let differences = self.differences(before);
        assert!(differences.is_empty(), "the host is not as it was:\n{}", differences.join("\n"));
    }

    /// What is no more, as `- line`, and what is new, as `+ line`.
    pub fn differences(&self, before: &Manifest) -> Vec<String> {
        let gone = before.lines.difference(&self.lines).map(|line| format!("- {line}"));
        gone.chain(self.lines.difference(&before.lines).map(|line| format!("+ {line}"))).collect()
    }
}
