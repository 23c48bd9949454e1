//! The place where programs that planning runs can change no file: a mount namespace of its own, read-only throughout.
//!
//! `mount_setattr(AT_RECURSIVE)` would do it in one call, but it needs a kernel from 5.12 on and there is no safe binding to
//! it; mount by mount works everywhere, and the result is checked in the kernel's own list.

use std::thread;

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    mount::{MountFlags, MountPropagationFlags, mount_change, mount_remount},
    thread::UnshareFlags,
};

use super::tree::words;

/// Does some work on a thread whose mount namespace is a read-only copy of the machine's, /proc/sys and /sys included.
///
/// The thread, and so the namespace, ends with the work; the caller's own namespace is untouched.
///
/// # Errors
/// Fails, with the system's words, if there can be no such namespace; then nothing was done.
pub fn read_only<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, String> {
    let ended = thread::scope(|scope| {
        scope
            .spawn(|| {
                enter()?;
                Ok(work())
            })
            .join()
    });
    ended.unwrap_or_else(|_| Err("the thread with the read-only file systems ended early".into()))
}

fn enter() -> Result<(), String> {
    #[expect(deprecated, reason = "its successor is unsafe only because of CLONE_FILES, which is not used here")]
    rustix::thread::unshare(UnshareFlags::NEWNS)
        .map_err(|errno| format!("cannot make a mount namespace: {}", words(errno)))?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(|errno| format!("cannot make the mount namespace private: {}", words(errno)))?;
    for mount in mounts()? {
        if mount.is_writable() && !mount.is_trigger() {
            // A mount that another one hides cannot be reached by its path, neither here nor by the program.
            let _ = mount_remount(mount.point.as_slice(), mount.flags() | MountFlags::BIND | MountFlags::RDONLY, c"");
        }
    }
    let after = mounts()?;
    match after.iter().find(|mount| mount.is_writable() && !mount.is_trigger() && !mount.is_hidden(&after)) {
        None => Ok(()),
        Some(mount) => Err(format!("cannot make `{}` read-only", String::from_utf8_lossy(&mount.point))),
    }
}

/// A line of mountinfo (proc_pid_mountinfo(5)).
struct Mount {
    id: u64,
    parent: u64,
    point: Vec<u8>,
    options: Vec<String>,
    kind: String,
}

impl Mount {
    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ');
        let mut text = || fields.next().and_then(|field| std::str::from_utf8(field).ok().map(String::from));
        let (id, parent) = (text()?.parse().ok()?, text()?.parse().ok()?);
        let mut fields = line.split(|byte| *byte == b' ').skip(4);
        let point = unescape(fields.next()?);
        let options = String::from_utf8_lossy(fields.next()?).split(',').map(String::from).collect();
        let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
        Some(Self { id, parent, point, options, kind: String::from_utf8_lossy(kind).into_owned() })
    }

    fn is_writable(&self) -> bool {
        !self.options.iter().any(|option| option == "ro")
    }

    /// An automount point: to touch it would mount something.
    fn is_trigger(&self) -> bool {
        self.kind == "autofs"
    }

    /// Tells whether another mount stands on this one's mount point or above it without carrying it.
    fn is_hidden(&self, all: &[Self]) -> bool {
        let carries = |other: &Self| {
            let mut id = self.parent;
            (0..all.len()).any(|_| {
                let here = id == other.id;
                if let Some(mount) = all.iter().find(|mount| mount.id == id) {
                    id = mount.parent;
                }
                here
            })
        };
        all.iter().any(|other| other.id != self.id && within(&self.point, &other.point) && !carries(other))
    }

    /// The flags of the mount that a remount must repeat, or they would be cleared.
    fn flags(&self) -> MountFlags {
        self.options.iter().fold(MountFlags::empty(), |flags, option| {
            flags
                | match option.as_str() {
                    "nosuid" => MountFlags::NOSUID,
                    "nodev" => MountFlags::NODEV,
                    "noexec" => MountFlags::NOEXEC,
                    "noatime" => MountFlags::NOATIME,
                    "nodiratime" => MountFlags::NODIRATIME,
                    "relatime" => MountFlags::RELATIME,
                    _ => MountFlags::empty(),
                }
        })
    }
}

fn within(path: &[u8], above: &[u8]) -> bool {
    above == b"/" || path == above || (path.starts_with(above) && path.get(above.len()) == Some(&b'/'))
}

/// The mounts of this very thread; `/proc/self` would show those of the process.
fn mounts() -> Result<Vec<Mount>, String> {
    let path = "/proc/thread-self/mountinfo";
    let failed = |errno: Errno| format!("cannot read `{path}`: {}", words(errno));
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
    let text = super::read::contents(&file, 16 << 20).map_err(|error| format!("cannot read `{path}`: {error}"))?;
    Ok(text.split(|byte| *byte == b'\n').filter_map(Mount::parse).collect())
}

/// Space, tab, newline and backslash are written as three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        match (first, after) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..]) => {
                bytes.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                rest = tail;
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_mountinfo() {
        let line = b"36 35 98:0 /mnt1 /mnt\\0402 rw,noatime,nosuid master:1 - ext3 /dev/root rw,errors=continue";
        let mount = Mount::parse(line).unwrap();
        assert_eq!((mount.id, mount.parent, mount.point.as_slice()), (36, 35, &b"/mnt 2"[..]));
        assert_eq!(mount.kind, "ext3");
        assert_eq!(mount.flags(), MountFlags::NOATIME | MountFlags::NOSUID);
        assert!(mount.is_writable());
        assert!(Mount::parse(b"").is_none());
    }

    #[test]
    fn what_another_mount_covers_is_hidden() {
        let parse = |line: &str| Mount::parse(line.as_bytes()).unwrap();
        let all = [
            parse("1 0 0:1 / / rw - ext4 a rw"),
            parse("2 1 0:2 / /mnt rw - tmpfs a rw"),
            parse("3 2 0:3 / /mnt/x rw - tmpfs a rw"),
            parse("4 2 0:4 / /mnt rw - tmpfs a rw"),
        ];
        let hidden: Vec<bool> = all.iter().map(|mount| mount.is_hidden(&all)).collect();
        assert_eq!(hidden, [false, true, true, false]);
    }
}
