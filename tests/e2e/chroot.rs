//! A machine in a directory: the real binary is its root in a mount namespace of its own, and strace may follow the executor.
//!
//! Everything that an apply changes there is a plain file, so a whole machine can be copied, compared and thrown away.

use crate::{
    lab::skip,
    program::{Env, Output},
};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink},
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// Where the files are that make a machine.
fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/machine").join(name)
}

/// Tells whether there can be such a machine here; says why not as a skipped test does.
pub fn is_possible() -> bool {
    let why = missing();
    if let Some(why) = &why {
        skip(why);
    }
    why.is_none()
}

fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("the user is not root".into());
    }
    for program in ["unshare", "strace", "grub-mkconfig", "grub-script-check", "systemctl"] {
        if Env::new().run("sh", ["-c", &format!("command -v {program}")], "").code != 0 {
            return Some(format!("no program `{program}` here; tests/setup installs it"));
        }
    }
    let line = "unshare --mount --propagation private mount --bind /usr /mnt && \
        strace -o /dev/null -e inject=getppid:error=EIO sh -c : 2>&1";
    let output = Env::new().run("sh", ["-c", line], "");
    (output.code != 0).then(|| format!("strace or mount namespaces do not work here: {output:?}"))
}

/// A machine in a directory of its own.
pub struct Machine {
    dir: TempDir,
}

impl Machine {
    /// One that vprov never touched.
    pub fn new() -> Machine {
        let machine = Machine { dir: directory() };
        for directory in [
            "etc/app",
            "etc/default/grub.d",
            "etc/sysctl.d",
            "boot/grub",
            "proc/self",
            "proc/sys/vm",
            "proc/sys/kernel/random",
            "sys",
            "dev",
            "usr",
            "run/systemd/system",
            "var/lib",
            "tmp",
            "srv/old",
            "fake",
        ] {
            fs::create_dir_all(machine.path(directory)).expect("a directory can be made");
        }
        for link in ["bin", "sbin", "lib", "lib64"] {
            symlink(format!("usr/{link}"), machine.path(link)).expect("a link can be made");
        }
        for (path, text) in FILES {
            machine.write(path, text);
        }
        for fake in ["grub-mkconfig", "grub-script-check", "systemctl"] {
            fs::copy(data(fake), machine.path(&format!("fake/{fake}"))).expect("a file can be copied");
        }
        fs::copy(data("executor"), machine.path("proc/self/exe")).expect("a file can be copied");
        fs::copy(data("hosts.yaml"), machine.path("hosts.yaml")).expect("a file can be copied");
        symlink("/srv/before", machine.path("etc/link")).expect("a link can be made");
        let set = |path: &str, mode: u32, owner: u32, name: &str, value: &str| {
            let path = machine.path(path);
            chown(&path, Some(owner), Some(owner)).expect("root may give files away");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode can be set");
            rustix::fs::lsetxattr(&path, name, value.as_bytes(), rustix::fs::XattrFlags::empty())
                .expect("an attribute can be set");
        };
        set("etc/app/app.conf", 0o4755, 3, "trusted.note", "mine");
        set("etc/app/key", 0o400, 0, "trusted.word", "kept");
        set("etc/app/owned", 0o644, 0, "trusted.owned", "x");
        set("etc/app/old", 0o600, 4, "trusted.old", "gone");
        set("srv/old", 0o755, 0, "trusted.dir", "d");
        machine
    }

    /// Another one that is the same.
    pub fn copy(&self) -> Machine {
        let copy = Machine { dir: directory() };
        let (from, to) = (self.dir.path().join("."), copy.dir.path());
        let status = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp starts");
        assert!(status.success());
        copy
    }

    /// Where a path of the machine is.
    pub fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// Puts a file there.
    pub fn write(&self, path: &str, text: &str) {
        fs::write(self.path(path), text).expect("a file can be written");
    }

    /// The text of a file; empty if there is none.
    pub fn read(&self, path: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.path(path)).unwrap_or_default()).into_owned()
    }

    /// Runs vprov as the machine's root.
    pub fn vprov(&self, args: &[&str]) -> Output {
        let run = data("run");
        let paths = [run.as_path(), self.dir.path(), Path::new(env!("CARGO_BIN_EXE_vprov"))];
        let start = ["--mount", "--propagation", "private"].into_iter().map(PathBuf::from);
        let args = start.chain(paths.map(PathBuf::from)).chain(args.iter().map(PathBuf::from));
        Env::new().run("unshare", args, "")
    }

    /// The same while strace follows the executor that acts, with these options; what strace wrote is returned too.
    pub fn traced(&self, options: &str, args: &[&str]) -> (Output, Vec<String>) {
        self.write("strace", options);
        let output = self.vprov(args);
        self.write("strace", "");
        let lines = self.read("trace").lines().map(String::from).collect();
        fs::remove_file(self.path("trace")).ok();
        (output, lines)
    }

    /// Everything on it but what vprov remembers, one line for each path: kind, mode, owner, attributes, content, and for
    /// files whose time is promised to come back the time.
    pub fn tree(&self, times: bool) -> BTreeMap<String, String> {
        let mut tree = BTreeMap::new();
        walk(self.dir.path(), self.dir.path(), times, &mut tree);
        tree
    }

    /// What a run leaves only while it goes on: temporary files, what is staged, marks and what is due.
    pub fn litter(&self) -> Vec<String> {
        let script = "find . -xdev \\( -name '.vprov-*' -o -path './var/lib/vprov/owed/*' -o -path '*/runs/*/stage' \
            -o -path '*/runs/*/open' -o -path '*/runs/*/interrupted' -o -name '.gone-*' \\)";
        let output = Command::new("sh").arg("-c").arg(script).current_dir(self.dir.path()).output();
        String::from_utf8_lossy(&output.expect("find starts").stdout).lines().map(String::from).collect()
    }
}

/// In memory where files have attributes there: thousands of runs wait for the disk else.
fn directory() -> TempDir {
    let memory = tempfile::Builder::new().prefix("vprov-machine").tempdir_in("/dev/shm");
    let fits = memory.ok().filter(|directory| {
        rustix::fs::setxattr(directory.path(), "trusted.vprov", b"", rustix::fs::XattrFlags::empty()).is_ok()
    });
    let directory = fits.unwrap_or_else(|| tempfile::tempdir().expect("a temporary directory"));
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("a mode can be set");
    directory
}

fn walk(top: &Path, directory: &Path, times: bool, tree: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(directory).expect("a directory can be listed") {
        let path = entry.expect("a directory can be listed").path();
        let name = path.strip_prefix(top).expect("it is below").display().to_string();
        if ["var/lib/vprov", "usr", "dev", "vprov", "trace", "strace"].contains(&name.as_str()) {
            continue;
        }
        let meta = fs::symlink_metadata(&path).expect("it can be looked at");
        let mut line = format!("{:o} {}:{}", meta.mode(), meta.uid(), meta.gid());
        let mut names = [0; 1024];
        let length = rustix::fs::llistxattr(&path, &mut names).expect("attributes can be listed");
        let mut names: Vec<String> = names[..length]
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty())
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect();
        names.sort();
        for name in names {
            let mut value = [0; 1024];
            let length = rustix::fs::lgetxattr(&path, name.as_str(), &mut value).expect("an attribute can be read");
            let _ = write!(line, " {name}={:?}", String::from_utf8_lossy(&value[..length]));
        }
        if meta.is_symlink() {
            let _ = write!(line, " -> {}", fs::read_link(&path).expect("a link").display());
        } else if meta.is_file() {
            let _ = write!(line, " {:?}", String::from_utf8_lossy(&fs::read(&path).expect("a file")));
            // Values have no time, and what programs make is made again.
            let is_made =
                name.starts_with("proc/") || ["boot/grub/grub.cfg", "run/app.loaded"].contains(&name.as_str());
            if times && !is_made {
                let _ = write!(line, " {}.{:09}", meta.mtime(), meta.mtime_nsec());
            }
        }
        if meta.is_dir() {
            walk(top, &path, times, tree);
        }
        tree.insert(name, line);
    }
}

/// What differs between two trees, in words.
pub fn difference(now: &BTreeMap<String, String>, then: &BTreeMap<String, String>) -> Option<String> {
    let only = |one: &BTreeMap<String, String>, other: &BTreeMap<String, String>, sign: char| -> Vec<String> {
        let lines = one.iter().filter(|(name, line)| other.get(*name) != Some(*line));
        lines.map(|(name, line)| format!("{sign} {name} {line}")).collect()
    };
    let lines = [only(then, now, '-'), only(now, then, '+')].concat();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

const KERNEL: &str = "6.1.0-1-amd64";

const FILES: &[(&str, &str)] = &[
    ("vprov", ""),
    ("strace", ""),
    ("etc/app/app.conf", "# the old one\r\n"),
    ("etc/app/key", "the old word\n"),
    ("etc/app/owned", "same\n"),
    ("etc/app/old", "to be removed\n"),
    (
        "etc/app.show",
        "Id=app.service\nNames=app.service\nLoadState=loaded\nActiveState=active\nSubState=running\n\
        FragmentPath=/lib/systemd/system/app.service\nUnitFileState=enabled\nUnitFilePreset=enabled\nNeedDaemonReload=no\n\
        CanReload=no\n",
    ),
    ("etc/default/grub", "GRUB_DEFAULT=0\nGRUB_CMDLINE_LINUX_DEFAULT=\"quiet\"\nGRUB_CMDLINE_LINUX=\"\"\n"),
    ("etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n"),
    ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
    ("etc/group", "root:x:0:\n"),
    ("run/app.loaded", "# the old one\r\n"),
    ("boot/vmlinuz-6.1.0-1-amd64", ""),
    (
        "boot/grub/grub.cfg",
        "set default=\"0\"\n### BEGIN /etc/grub.d/10_linux ###\nmenuentry 'Debian' --id one {\n\
        \tlinux /boot/vmlinuz-6.1.0-1-amd64 root=/dev/vda ro  quiet\n}\n### END /etc/grub.d/10_linux ###\n",
    ),
    ("proc/cmdline", "BOOT_IMAGE=/boot/vmlinuz-6.1.0-1-amd64 root=/dev/vda ro quiet\n"),
    ("proc/cpuinfo", "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: vmx pdpe1gb\n"),
    ("proc/meminfo", "MemTotal:       16000000 kB\nMemFree:        15000000 kB\nMemAvailable:   15000000 kB\n"),
    ("proc/stat", "btime 1764000000\n"),
    ("proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n"),
    ("proc/self/mountinfo", ""),
    ("proc/self/status", "Name:\tvprov\nUid:\t0\t0\t0\t0\n"),
    ("proc/sys/vm/swappiness", "60\n"),
    ("proc/sys/kernel/arch", "x86_64\n"),
    ("proc/sys/kernel/hostname", "image\n"),
    ("proc/sys/kernel/osrelease", KERNEL),
    ("proc/sys/kernel/random/boot_id", "0b0f0c5e-9c3d-4c52-9c5a-d6a4e5b6d7c8\n"),
];
