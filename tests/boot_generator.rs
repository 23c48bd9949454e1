//! The distribution's own generator and checker judge what the boot drivers write.
//!
//! The unmodified `grub-mkconfig` runs in a mount namespace of its own, where /boot, /etc/default and `grub-probe` are stand-ins;
//! nothing of this machine is written. Without the tools or the right to unshare, the tests say so and end.

#![expect(clippy::print_stdout, reason = "a test that cannot run says why")]
#![expect(clippy::disallowed_methods, reason = "the tests run programs and write below a temporary directory")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use vprov::{
    host::{bytes::Bytes, path::AbsPath},
    os::boot::{
        cmdline::{Request, Target},
        driver::{self, BootEdit, DEFAULT_GRUB, Evidence, Wanted, regeneration_due},
        grub_cfg::{GrubCfg, GrubEnv},
    },
};

const MKCONFIG: &str = "/usr/sbin/grub-mkconfig";

/// Answers for a disk with one partition, which a temporary directory is not.
const PROBE: &str = "#!/bin/sh
case \"$*\" in
*target=device*) echo /dev/vda1 ;;
*fs_uuid*) echo 11111111-2222-3333-4444-555555555555 ;;
*partuuid*) echo 0badcafe-01 ;;
*target=partmap*) echo msdos ;;
*target=abstraction*) ;;
*compatibility_hint* | *hints_string* | *target=drive*) echo hd0,msdos1 ;;
*) echo ext2 ;;
esac
";

/// A host's files below a temporary directory.
struct Host {
    directory: tempfile::TempDir,
}

impl Host {
    /// Makes a host with two kernels; `None` if this machine cannot run the generator.
    fn new(xen: bool) -> Option<Self> {
        let unshare = Command::new("unshare").args(["-rm", "true"]).output();
        if !Path::new(MKCONFIG).exists() || !unshare.is_ok_and(|output| output.status.success()) {
            println!("skipped: no {MKCONFIG}, or no right to unshare");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir_all(root.join("boot/grub")).unwrap();
        fs::create_dir_all(root.join("default/grub.d")).unwrap();
        for version in ["6.1.0-37-amd64", "6.1.0-38-amd64"] {
            fs::write(root.join(format!("boot/vmlinuz-{version}")), "").unwrap();
            fs::write(root.join(format!("boot/initrd.img-{version}")), "").unwrap();
            fs::write(root.join(format!("boot/config-{version}")), "CONFIG_XEN_DOM0=y\n").unwrap();
        }
        if xen {
            fs::write(root.join("boot/xen-4.17-amd64.gz"), "").unwrap();
        }
        fs::write(root.join("probe"), PROBE).unwrap();
        fs::set_permissions(root.join("probe"), fs::Permissions::from_mode(0o755)).unwrap();
        Some(Self { directory })
    }

    /// Writes what a plan wants.
    fn make(&self, edit: &BootEdit) {
        for file in &edit.files {
            let path = self.path(&file.path);
            match &file.after {
                Some(after) => fs::write(path, &after.0).unwrap(),
                None => fs::remove_file(path).unwrap(),
            }
        }
    }

    fn path(&self, path: &AbsPath) -> std::path::PathBuf {
        self.directory.path().join(path.as_str().strip_prefix("/etc/").unwrap())
    }

    /// Runs the generator, and the checker on what it made.
    fn generate(&self) -> String {
        let root = self.directory.path().display();
        let script = format!(
            "set -e; mount --bind {root}/default /etc/default; mount --bind {root}/boot /boot; \
             mount --bind {root}/probe /usr/sbin/grub-probe; {MKCONFIG} -o /boot/grub/staged.cfg; \
             grub-script-check /boot/grub/staged.cfg"
        );
        let output = Command::new("unshare").args(["-rm", "sh", "-c", &script]).env("LC_ALL", "C").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::read_to_string(self.directory.path().join("boot/grub/staged.cfg")).unwrap()
    }
}

fn request(target: Target, parameters: &[&str]) -> Option<Request> {
    Some(Request::new(target, parameters, &[]).unwrap().0)
}

fn read(path: &Path) -> Option<Bytes> {
    fs::read(path).ok().map(Bytes)
}

fn evidence(host: &Host, suse: bool) -> Evidence {
    let own = host.directory.path().join("default/grub.d/99-vprov.cfg");
    let generator = fs::read(MKCONFIG).unwrap();
    let base = Evidence {
        arch: "x86_64".into(),
        default_grub: read(&host.path(&AbsPath::known(DEFAULT_GRUB))),
        grub_d: read(&own).map(|bytes| ("99-vprov.cfg".to_owned(), bytes)).into_iter().collect(),
        grub_cfg: vec![AbsPath::known("/boot/grub/grub.cfg")],
        mkconfig: Some((AbsPath::known(MKCONFIG), Bytes(generator))),
        ..Evidence::default()
    };
    match suse {
        false => Evidence { os_id: "debian".into(), ..base },
        true => Evidence {
            os_id: "sles".into(),
            loader_type: Some("grub2".into()),
            // The generator of SUSE reads no drop-ins.
            mkconfig: Some((AbsPath::known("/usr/sbin/grub2-mkconfig"), Bytes::default())),
            ..base
        },
    }
}

fn check(suse: bool, default_grub: &str) {
    let Some(host) = Host::new(true) else { return };
    fs::write(host.path(&AbsPath::known(DEFAULT_GRUB)), default_grub).unwrap();
    let wanted = Wanted {
        linux: request(
            Target::Linux,
            &["default_hugepagesz=1G", "hugepagesz=1G", "hugepages=4", "hugepagesz=2M", "hugepages=9"],
        ),
        xen: request(Target::Xen, &["dom0_mem=1G+10%,max:1G+10%", "dom0_max_vcpus=2-4"]),
    };
    let before = GrubCfg::parse(&host.generate()).unwrap();
    let edit = driver::plan(&evidence(&host, suse), &wanted).unwrap();
    assert!(!edit.files.is_empty() && !regeneration_due(&before, &edit.after, &wanted).is_empty());
    assert_eq!(regeneration_due(&before, &edit.before, &Wanted::default()), []);

    host.make(&edit);
    let menu = GrubCfg::parse(&host.generate()).unwrap();
    assert_eq!(regeneration_due(&menu, &edit.after, &wanted), []);
    let next = menu.next_boot(&GrubEnv::default()).unwrap();
    let line = next.entry.linux().unwrap().line;
    assert!(line.contains("foreign=1"), "{line}");
    assert!(line.ends_with("default_hugepagesz=1G hugepagesz=1G hugepages=4 hugepagesz=2M hugepages=9"), "{line}");
    let xen = menu.boot_entries().into_iter().find(|entry| entry.is_xen()).unwrap();
    assert!(xen.xen().unwrap().line.contains("console=vga dom0_mem=1G+10%,max:1G+10% dom0_max_vcpus=2-4"));
    assert!(xen.linux().unwrap().line.contains("console=hvc0 default_hugepagesz=1G"));
    let recovery: Vec<_> = menu.boot_entries().into_iter().filter(|entry| entry.is_recovery()).collect();
    assert!(!recovery.is_empty() && recovery.iter().all(|entry| !entry.linux().unwrap().line.contains("hugepages")));

    let again = driver::plan(&evidence(&host, suse), &wanted).unwrap();
    assert_eq!(again.files, []);
    // Without anything wanted the menu is what it was.
    let back =
        Wanted { linux: wanted.linux.as_ref().map(Request::reverted), xen: wanted.xen.as_ref().map(Request::reverted) };
    host.make(&driver::plan(&evidence(&host, suse), &back).unwrap());
    let reverted = GrubCfg::parse(&host.generate()).unwrap();
    assert_eq!(reverted, before);
}

const DEFAULT: &str = "GRUB_DISTRIBUTOR=`echo Test`
GRUB_TIMEOUT=5
GRUB_CMDLINE_LINUX_DEFAULT=\"quiet foreign=1\"
GRUB_CMDLINE_LINUX=''
GRUB_CMDLINE_XEN_DEFAULT=\"console=vga\"
GRUB_CMDLINE_LINUX_XEN_REPLACE_DEFAULT=console=hvc0
";

#[test]
fn the_drop_in_is_generated_from() {
    check(false, DEFAULT);
}

#[test]
fn the_edited_file_is_generated_from() {
    check(true, DEFAULT);
}
