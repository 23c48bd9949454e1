//! `/proc/self/mountinfo`: what is mounted now, and how a live NFS mount differs from its options (proc(5), nfs(5)).

use serde::{Deserialize, Serialize};

use super::fstab::{meaning, split_options, unescape};

/// One mounted file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// The mount point.
    pub target: String,
    /// The device, or `SERVER:PATH`.
    pub source: String,
    /// The type; an `nfs` entry of fstab becomes `nfs4` where version 4 was agreed on.
    pub fstype: String,
    /// The directory of the file system that is mounted; `/` unless it is a bind mount or subvolume.
    pub root: String,
    /// The options of this mount, for example `rw`, `noatime`.
    pub options: Vec<String>,
    /// The options of the file system, for example `rw`, `vers=4.2`.
    pub super_options: Vec<String>,
}

/// A line that is not what the kernel writes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of mountinfo has no {field}")]
pub struct MountinfoError {
    /// The line, from 1.
    pub line: usize,
    /// The field that is missing.
    pub field: &'static str,
}

/// Reads the file, oldest mount first.
///
/// # Errors
/// If a line has too few fields.
pub fn parse(content: &[u8]) -> Result<Vec<Mount>, MountinfoError> {
    let lines = content.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty());
    lines.map(|(at, line)| parse_line(line).map_err(|field| MountinfoError { line: at + 1, field })).collect()
}

fn parse_line(line: &[u8]) -> Result<Mount, &'static str> {
    let mut fields = line.split(|byte| *byte == b' ');
    let root = fields.nth(3).map(unescape).ok_or("root")?;
    let target = fields.next().map(unescape).ok_or("mount point")?;
    let options = fields.next().map(|text| split_options(&unescape(text))).ok_or("mount options")?;
    fields.find(|field| *field == b"-").ok_or("separator")?;
    let fstype = fields.next().map(unescape).ok_or("file system type")?;
    let source = fields.next().map(unescape).ok_or("source")?;
    let super_options = fields.next().map(|text| split_options(&unescape(text))).ok_or("super options")?;
    Ok(Mount { target, source, fstype, root, options, super_options })
}

/// Returns the file system that one sees at a mount point: the last one mounted there.
#[must_use]
pub fn at<'a>(mounts: &'a [Mount], target: &str) -> Option<&'a Mount> {
    let target = if target.len() > 1 { target.trim_end_matches('/') } else { target };
    mounts.iter().rev().find(|mount| mount.target == target)
}

/// How a difference between wanted and live options goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Remedy {
    /// `mount -o remount` is enough.
    Remount,
    /// The kernel refuses to change it on a live mount: it must be unmounted and mounted again.
    MountAgain,
}

/// An option that a live mount does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The option that is wanted.
    pub wanted: String,
    /// The option that is live instead; `None` if the kernel shows nothing of this meaning.
    pub live: Option<String>,
    /// What makes it live.
    pub remedy: Remedy,
}

/// Compares the wanted options with those of a live NFS mount.
///
/// Options that only user space knows (`_netdev`, `nofail`, `x-systemd.*`, …) are never shown and never differ, `rsize`
/// and `wsize` are upper bounds that the server may lower, and a wanted default counts as live unless its opposite is
/// shown (linux fs/nfs/super.c `nfs_show_mount_options`). Remounting changes only what belongs to the mount point and
/// `sync` (`nfs_compare_remount_data`).
#[must_use]
pub fn nfs_differences(wanted: &[String], live: &Mount) -> Vec<Difference> {
    wanted.iter().filter_map(|option| nfs_difference(option, live)).collect()
}

fn nfs_difference(wanted: &str, live: &Mount) -> Option<Difference> {
    let shown = |options: &'_ [String], meaning: &str| {
        options.iter().rev().find(|option| self::meaning(option) == meaning).cloned()
    };
    let differs = |live: Option<String>, remedy| Some(Difference { wanted: wanted.into(), live, remedy });
    let (name, value) = wanted.split_once('=').map_or((wanted, None), |(name, value)| (name, Some(value)));
    let meaning = meaning(wanted);
    let user_space =
        ["defaults", "auto", "noauto", "fail", "user", "fg", "_netdev", "comment", "retry", "loud", "silent"];
    if user_space.contains(&name) || user_space.contains(&meaning.as_str()) || name.starts_with("x-") {
        return None;
    }
    match (meaning.as_str(), value) {
        ("rw", _) => {
            // Either layer makes it read-only, but a remount reaches both.
            let read_only =
                [&live.options, &live.super_options].iter().any(|options| options.iter().any(|o| o == "ro"));
            if (wanted == "ro") == read_only {
                None
            } else {
                differs(Some(if read_only { "ro" } else { "rw" }.into()), Remedy::Remount)
            }
        }
        ("sync", _) => {
            let live = shown(&live.super_options, "sync").or_else(|| shown(&live.options, "sync"));
            let is_sync = live.as_deref() == Some("sync");
            if (wanted == "sync") == is_sync { None } else { differs(live, Remedy::Remount) }
        }
        ("atime", _) => {
            let live = shown(&live.options, "atime");
            let same = match wanted {
                "noatime" | "strictatime" => {
                    live.as_deref() == Some(wanted) || (wanted == "strictatime" && live.is_none())
                }
                _ => live.as_deref() != Some("noatime"),
            };
            if same { None } else { differs(live, Remedy::Remount) }
        }
        ("suid" | "dev" | "exec" | "diratime", _) => {
            let negative = format!("no{meaning}");
            let is_negative = live.options.contains(&negative);
            match (wanted == negative) == is_negative {
                true => None,
                false => differs(is_negative.then_some(negative), Remedy::Remount),
            }
        }
        ("rsize" | "wsize", Some(size)) => {
            let live = shown(&live.super_options, &meaning);
            let number = |text: &str| text.parse::<u64>().ok();
            let bound = number(size).map(effective_size);
            let effective = live.as_deref().and_then(|option| number(option.split_once('=')?.1));
            match (bound, effective) {
                (Some(bound), Some(effective)) if effective <= bound => None,
                _ => differs(live, Remedy::MountAgain),
            }
        }
        ("vers", _) => {
            let live = shown(&live.super_options, "vers");
            let effective = live.as_deref().and_then(|option| option.split_once('=')).map(|(_, version)| version);
            let asked = value.or_else(|| wanted.strip_prefix('v')).unwrap_or_default();
            let same = effective.is_some_and(|effective| {
                effective == asked || effective.strip_prefix(asked).is_some_and(|rest| rest.starts_with('.'))
            });
            if same { None } else { differs(live, Remedy::MountAgain) }
        }
        ("proto", _) => {
            let live = shown(&live.super_options, "proto");
            let asked = value.unwrap_or(name);
            let effective = live.as_deref().and_then(|option| option.split_once('=')).map(|(_, proto)| proto);
            // The 6 only tells the family of the addresses.
            let same =
                effective.is_some_and(|effective| effective.trim_end_matches('6') == asked.trim_end_matches('6'));
            if same { None } else { differs(live, Remedy::MountAgain) }
        }
        ("port" | "mountport" | "mountproto" | "mountvers" | "mounthost" | "clientaddr" | "addr", Some(_)) => {
            match shown(&live.super_options, &meaning) {
                Some(live) if live != wanted => differs(Some(live), Remedy::MountAgain),
                _ => None,
            }
        }
        (_, Some(_)) => match shown(&live.super_options, &meaning) {
            Some(live) if live == wanted => None,
            live => differs(live, Remedy::MountAgain),
        },
        (_, None) => match shown(&live.super_options, &meaning) {
            Some(live) if live == wanted => None,
            None if !wanted.starts_with("no") && wanted != "soft" && wanted != "softerr" && wanted != "fsc" => None,
            live => differs(live, Remedy::MountAgain),
        },
    }
}

/// Returns the size that the kernel makes of an `rsize` or `wsize`, in bytes: below 1024 becomes 4096, above 1 MiB
/// becomes 1 MiB, others are rounded down to a multiple of 4096, or to a power of two below that
/// (linux fs/nfs/internal.h `nfs_io_size`).
#[must_use]
pub fn effective_size(size: u64) -> u64 {
    match size {
        0..1024 => 4096,
        1024..4096 => 1 << size.ilog2(),
        4096..0x10_0000 => size & !4095,
        _ => 0x10_0000,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // The first line is captured on Debian 12, the others are written by hand after what Linux 6.1 shows.
    const REAL: &str = "23 27 0:22 / /sys rw,relatime - sysfs sysfs rw\n\
        27 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw,discard\n\
        90 27 0:50 / /mnt/images rw,noatime shared:9 - nfs4 nfs1:/exported/vm_images rw,sync,vers=4.2,rsize=262144,\
        wsize=1048576,namlen=255,hard,proto=tcp6,timeo=600,retrans=2,sec=sys,clientaddr=::1,local_lock=none,addr=::2\n\
        91 27 0:51 / /mnt/a\\040b ro,nosuid - tmpfs tmp\\011fs rw,size=4k\n\
        92 27 0:52 /sub /mnt/a\\040b rw - tmpfs top rw\n";

    #[test]
    fn fields_are_read_without_escapes() {
        let mounts = parse(REAL.as_bytes()).unwrap();
        assert_eq!(mounts.len(), 5);
        assert_eq!(at(&mounts, "/").unwrap().source, "/dev/vda");
        assert_eq!(mounts[3].source, "tmp\tfs");
        let top = at(&mounts, "/mnt/a b/").unwrap();
        assert_eq!((top.source.as_str(), top.root.as_str()), ("top", "/sub"));
        assert_eq!(at(&mounts, "/nowhere"), None);
        assert_eq!(parse(b"1 2 3\n"), Err(MountinfoError { line: 1, field: "root" }));
    }

    #[test]
    fn wanted_against_live() {
        use Remedy::{MountAgain, Remount};
        let mounts = parse(REAL.as_bytes()).unwrap();
        let live = at(&mounts, "/mnt/images").unwrap();
        for (wanted, expected) in [
            ("rw,sync,hard,noatime,vers=4.2,nfsvers=4,proto=tcp,rsize=1048576,wsize=1048576", vec![]),
            ("defaults,_netdev,nofail,x-systemd.automount,bg,noauto,ac,cto,exec,suid,v4.2", vec![]),
            ("timeo=600,sec=sys,retrans=2", vec![]),
            ("ro", vec![("ro", Some("rw"), Remount)]),
            ("async", vec![("async", Some("sync"), Remount)]),
            ("relatime,nosuid", vec![("relatime", Some("noatime"), Remount), ("nosuid", None, Remount)]),
            ("soft", vec![("soft", Some("hard"), MountAgain)]),
            ("rsize=65536", vec![("rsize=65536", Some("rsize=262144"), MountAgain)]),
            ("wsize=2097152", vec![]),
            ("vers=3", vec![("vers=3", Some("vers=4.2"), MountAgain)]),
            ("nfsvers=4.1", vec![("nfsvers=4.1", Some("vers=4.2"), MountAgain)]),
            (
                "timeo=100,sec=krb5",
                vec![("timeo=100", Some("timeo=600"), MountAgain), ("sec=krb5", Some("sec=sys"), MountAgain)],
            ),
            ("noac,nconnect=4", vec![("noac", None, MountAgain), ("nconnect=4", None, MountAgain)]),
        ] {
            let found = nfs_differences(&split_options(wanted), live);
            let found: Vec<_> =
                found.iter().map(|found| (found.wanted.as_str(), found.live.as_deref(), found.remedy)).collect();
            assert_eq!(found, expected, "{wanted}");
        }
    }

    #[test]
    fn sizes_as_the_kernel_rounds_them() {
        for (size, effective) in
            [(0, 4096), (1023, 4096), (1024, 1024), (3000, 2048), (8192, 8192), (10000, 8192), (2 << 20, 1 << 20)]
        {
            assert_eq!(effective_size(size), effective);
        }
    }

    proptest! {
        #[test]
        fn no_input_panics(content: Vec<u8>, wanted: Vec<String>) {
            let _ = parse(&content);
            let _ = nfs_differences(&wanted, &parse(REAL.as_bytes()).unwrap()[2]);
        }
    }
}
