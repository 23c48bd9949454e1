//! Simulated hosts: one host in memory is planned, and applied, for real; a fleet then gets its recorded answers.
//!
//! So a simulated host costs what a real one costs its controller (every answer is copied, as from the wire), but nothing of
//! what would be measured of a host or a network.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use rayon::prelude::*;
use vprov::{
    catalog::{self, Catalog},
    config::{HostSpec, LoadOptions, Project, embedded},
    diag::{Diagnostics, SourceMap},
    facts::{self, Facts},
    graph::Graph,
    host::{
        Host, HostError,
        fake::{FakeHost, Live, Node, World},
        path::AbsPath,
        read::{Answer, Output, Read},
        run::{Applied, Outcome, RolledBack, Run, RunId, StepEvent},
    },
    plan::{
        Planned,
        host::{Circumstances, plan},
    },
    resource::Registry,
};

/// How many hosts an inventory writes one by one; the rest is written as ranges.
#[derive(Clone, Copy)]
pub enum Written {
    /// As one range.
    Range,
    /// As one line for each host.
    Singly,
}

/// A directory with an inventory of `n` hosts, each with all parts of the `kvm-host` playbook.
pub struct Inventory {
    directory: tempfile::TempDir,
}

impl Inventory {
    /// Writes the inventory.
    pub fn new(n: usize, written: Written) -> Self {
        let width = n.to_string().len();
        let hosts = match written {
            Written::Range => format!("  kvm[{:0width$}-{n}].example.net: {{}}\n", 1),
            Written::Singly => (1..=n).map(|at| format!("  kvm{at:0width$}.example.net: {{}}\n")).collect(),
        };
        let directory = tempfile::tempdir().expect("there is a directory for temporary files");
        let text = include_str!("hosts.yaml").replace("  HOSTS\n", &hosts);
        std::fs::write(directory.path().join("hosts.yaml"), text).expect("the directory is ours");
        Self { directory }
    }

    /// Returns the inventory's file.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("hosts.yaml")
    }
}

/// Loads a project as the program does.
pub fn load(path: &Path) -> Project {
    let sources = Arc::new(SourceMap::new());
    let options =
        LoadOptions { embedded: embedded::FILES, facts: Some(facts::tree().to_value()), ..LoadOptions::default() };
    match Project::load(path, &options, &Registry, &sources) {
        Ok((project, _)) => project,
        Err(diagnostics) => panic!("{}", diagnostics.render(&sources, false)),
    }
}

/// Makes the catalog and graph of a host.
pub fn compile(project: &Project, spec: &HostSpec, facts: &Facts) -> Result<(Catalog, Graph), Diagnostics> {
    let catalog = catalog::build(project.expand(spec, &facts.to_value())?)?;
    let graph = Graph::build(&catalog)?;
    Ok((catalog, graph))
}

/// Plans one host.
pub fn plan_one(project: &Project, spec: &HostSpec, host: &mut dyn Host) -> Planned {
    match plan(host, &|facts| compile(project, spec, facts), Circumstances::default(), &mut |_| ()) {
        Ok(planned) => planned,
        Err(error) => panic!("{}: {error:?}", spec.name),
    }
}

/// The recorded answers of a host, for all hosts of a fleet.
pub struct Fleet {
    answers: HashMap<Read, Answer>,
}

impl Fleet {
    /// Returns a fleet of fresh hosts, where each resource changes something, and one of hosts as the first apply left them.
    pub fn changing_and_unchanged(project: &Project) -> (Self, Self) {
        let spec = &project.hosts()[0];
        let mut host = Recorder { host: host(), answers: HashMap::new() };
        let planned = plan_one(project, spec, &mut host);
        let changing = Self { answers: std::mem::take(&mut host.answers) };
        let run = planned.run(RunId::new(0, 0), "bench".into());
        let applied = host.host.apply(&run, &mut |_| ()).expect("the host in memory is there");
        let done = |outcome: &Outcome| matches!(outcome, Outcome::Done { .. });
        assert!(matches!(&applied, Applied::Ran { outcomes } if outcomes.iter().all(done)), "{applied:#?}");
        let planned = plan_one(project, spec, &mut host);
        assert_eq!(planned.counts().changes, 0, "{:#?}", planned.changes().collect::<Vec<_>>());
        (changing, Self { answers: host.answers })
    }

    /// Plans hosts on all cores and returns how many resources of all of them change, need nothing, and are anything else.
    pub fn plan(&self, project: &Project, hosts: &[Arc<HostSpec>]) -> (usize, usize, usize) {
        let counts = |spec: &Arc<HostSpec>| {
            let planned = plan_one(project, spec, &mut Simulated { name: &spec.name, answers: &self.answers });
            let counts = planned.counts();
            (counts.changes, counts.converged, planned.resources.len() - counts.changes - counts.converged)
        };
        hosts.par_iter().map(counts).reduce(Default::default, |a, b| (a.0 + b.0, a.1 + b.1, a.2 + b.2))
    }
}

/// A host that answers what another one answered, but for its name.
struct Simulated<'a> {
    name: &'a str,
    answers: &'a HashMap<Read, Answer>,
}

impl Host for Simulated<'_> {
    fn read(&mut self, reads: &[Read]) -> Result<Vec<Answer>, HostError> {
        let answer = |read: &Read| {
            let mut answer = self.answers.get(read).cloned();
            if let (Some(Answer::File { content: Some(content), .. }), Some("/proc/sys/kernel/hostname")) =
                (&mut answer, read.path().map(AbsPath::as_str))
            {
                *content = format!("{}\n", self.name).into();
            }
            answer.ok_or_else(|| HostError::Protocol(format!("{read:?} was not recorded")))
        };
        reads.iter().map(answer).collect()
    }

    fn apply(&mut self, _: &Run, _: &mut dyn FnMut(&StepEvent)) -> Result<Applied, HostError> {
        Err(HostError::Refused("a simulated host is only planned".into()))
    }

    fn rollback(&mut self, _: &RunId) -> Result<RolledBack, HostError> {
        Err(HostError::Refused("a simulated host is only planned".into()))
    }
}

/// A host in memory whose answers are kept.
struct Recorder {
    host: FakeHost,
    answers: HashMap<Read, Answer>,
}

impl Host for Recorder {
    fn read(&mut self, reads: &[Read]) -> Result<Vec<Answer>, HostError> {
        let answers = self.host.read(reads)?;
        self.answers.extend(reads.iter().cloned().zip(answers.iter().cloned()));
        Ok(answers)
    }

    fn apply(&mut self, run: &Run, on: &mut dyn FnMut(&StepEvent)) -> Result<Applied, HostError> {
        self.host.apply(run, on)
    }

    fn rollback(&mut self, run: &RunId) -> Result<RolledBack, HostError> {
        self.host.rollback(run)
    }
}

/// Makes a KVM host of Debian 12 with 32 processors, 64 GiB and two disks.
fn host() -> FakeHost {
    let mut world = World::new();
    for (path, content) in [
        ("/etc/os-release", include_str!("../../tests/data/os-release/debian-12")),
        ("/etc/default/grub", include_str!("../../tests/data/grub/default/debian-12")),
        ("/usr/sbin/grub-mkconfig", "for x in ${sysconfdir}/default/grub.d/*.cfg ; do\n"),
        ("/etc/passwd", "root:x:0:0:root:/root:/bin/bash\n"),
        ("/etc/group", "root:x:0:\n"),
        ("/etc/fstab", "/dev/vda1 / ext4 errors=remount-ro 0 1\n"),
        ("/etc/libvirt/qemu.conf", "# Master configuration file for the QEMU driver.\n#max_files = 32768\n"),
        (
            "/usr/lib/systemd/system/libvirtd.service",
            "[Service]\nExecStart=/usr/sbin/libvirtd\n[Install]\nWantedBy=multi-user.target\n",
        ),
    ] {
        world.file(path, content);
    }
    for path in ["/etc/default/grub.d", "/etc/sysctl.d", "/etc/tmpfiles.d", "/run/systemd/system", "/sys/kernel/mm/ksm"]
    {
        world.make_directories(&AbsPath::known(path));
    }
    for version in ["6.1.0-37", "6.1.0-38"] {
        for name in ["vmlinuz", "initrd.img"] {
            world.file(&format!("/boot/{name}-{version}-amd64"), "");
        }
    }
    world.place("/dev/kvm", Node::Special);
    let processor = |at: usize| {
        format!(
            "processor\t: {at}\nvendor_id\t: GenuineIntel\nmodel name\t: Intel(R) Xeon(R) Silver 4314 CPU @ 2.40GHz\n\
             flags\t\t: fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush dts acpi mmx fxsr sse \
             sse2 ss ht tm pbe syscall nx pdpe1gb rdtscp lm constant_tsc art arch_perfmon pebs bts rep_good nopl vmx\n\n"
        )
    };
    let meminfo = format!("MemTotal:       {} kB\nHugepagesize:       2048 kB\n", 64 << 20);
    for (path, text) in [
        ("/proc/cpuinfo", (0..32).map(processor).collect::<String>()),
        ("/proc/meminfo", meminfo),
        ("/proc/cmdline", "BOOT_IMAGE=/vmlinuz-6.1.0-38-amd64 root=/dev/vda1 ro quiet".into()),
        ("/proc/stat", "btime 1795480000".into()),
        ("/proc/swaps", "Filename Type Size Used Priority".into()),
        ("/proc/self/status", "Name:\tvprov\nUid:\t0\t0\t0\t0".into()),
        ("/proc/self/mountinfo", "25 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw".into()),
        ("/proc/sys/kernel/osrelease", "6.1.0-38-amd64".into()),
        ("/proc/sys/kernel/arch", "x86_64".into()),
        ("/proc/sys/kernel/hostname", "kvm".into()),
        ("/proc/sys/kernel/random/boot_id", "5f2c1d7e-9f60-4b1c-8f0e-0f8f2f7a4b11".into()),
        ("/sys/devices/system/cpu/online", "0-31".into()),
    ] {
        world.value(path, Live::ReadOnly(text));
    }
    for at in 0..32 {
        let topology = format!("/sys/devices/system/cpu/cpu{at}/topology");
        world.value(
            &format!("{topology}/thread_siblings_list"),
            Live::ReadOnly(format!("{},{}", at % 16, at % 16 + 16)),
        );
        world.value(&format!("{topology}/physical_package_id"), Live::ReadOnly(format!("{}", at / 8 % 2)));
    }
    for size in ["2048kB", "1048576kB"] {
        let pool = format!("/sys/kernel/mm/hugepages/hugepages-{size}/nr_hugepages");
        world.value(&pool, Live::Pool { value: 0, limit: 1 << 20 });
    }
    for disk in ["sda", "sdb"] {
        world.value(&format!("/sys/block/{disk}/queue/rotational"), Live::integer(0, 0, 1));
        world.value(&format!("/sys/block/{disk}/queue/scheduler"), Live::choice("mq-deadline kyber [bfq] none"));
    }
    let enabled = "/sys/kernel/mm/transparent_hugepage/enabled";
    world.value(enabled, Live::choice("[always] madvise never"));
    world.value("/proc/sys/vm/swappiness", Live::integer(60, 0, 200));
    world.value("/proc/sys/fs/aio-max-nr", Live::integer(65_536, 0, i64::MAX.into()));
    for (name, value) in [("run", 0), ("pages_to_scan", 100), ("sleep_millisecs", 20), ("merge_across_nodes", 1)] {
        world.value(&format!("/sys/kernel/mm/ksm/{name}"), Live::integer(value, 0, u32::MAX.into()));
    }
    generate(&mut world, &["grub-mkconfig".into(), "-o".into(), "/boot/grub/grub.cfg".into()]);
    let fine = |_: &mut World, _: &[String]| output("");
    FakeHost::new(world)
        .with_program("/usr/sbin/grub-mkconfig", generate)
        .with_program("mount", mount)
        .with_program("grub-script-check", fine)
        .with_program("findmnt", fine)
}

fn output(text: &str) -> Output {
    Output { status: 0, stdout: text.into(), stderr: "".into() }
}

/// Generates a menu: Debian's own, with what the drop-in of vprov appends on the line of each entry but those for recovery.
fn generate(world: &mut World, argv: &[String]) -> Output {
    let own = world.text("/etc/default/grub.d/99-vprov.cfg").unwrap_or_default();
    let appended = own.lines().find_map(|line| line.split_once("_DEFAULT ")?.1.strip_suffix('"')).unwrap_or_default();
    let line = |line: &str| match line.trim_start().starts_with("linux\t") && !line.contains("single") {
        true => format!("{line} {appended}\n"),
        false => format!("{line}\n"),
    };
    let menu: String = include_str!("../../tests/data/grub/cfg/debian-12.cfg").lines().map(line).collect();
    if let Some(file) = argv.last() {
        world.file(file, menu);
    }
    output("")
}

/// Mounts what `/etc/fstab` says of a path.
fn mount(world: &mut World, argv: &[String]) -> Output {
    let fstab = world.text("/etc/fstab").unwrap_or_default();
    let mut lines = fstab.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    if let Some([source, path, fstype, ..]) =
        lines.find(|line| line.get(1) == argv.last().map(String::as_str).as_ref()).as_deref()
    {
        let table = world.text("/proc/self/mountinfo").unwrap_or_default();
        let line = format!("90 25 0:50 / {path} rw,relatime shared:9 - {fstype} {source} rw,hard");
        world.value("/proc/self/mountinfo", Live::ReadOnly(format!("{table}{line}")));
    }
    output("")
}
