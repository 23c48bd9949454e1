//! Random hosts and declarations of each kind, and the programs that those hosts have.

use std::fmt;

use proptest::{prelude::*, sample::select, strategy::BoxedStrategy};
use serde_json::{Value, json};

use crate::{
    host::{
        bytes::Bytes,
        fake::{FakeHost, Live, Node, World, grub_mkconfig},
        op::Owner,
        path::AbsPath,
        read::Output,
    },
    os::{
        fstab::{Fstab, split_options},
        mountinfo,
    },
};

/// What is declared for a host, and the host.
#[derive(Clone)]
pub struct Case {
    pub entries: Vec<Entry>,
    pub world: World,
    /// A step may fail: the kernel does not take the value, or a program says no.
    pub may_fail: bool,
    /// Everything that changes what a unit reads at its start notifies that unit.
    pub notified: bool,
}

/// One declaration.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub kind: &'static str,
    pub params: Value,
    pub name: Option<String>,
    pub requires: Vec<String>,
    pub notify: Vec<String>,
}

/// What one kind adds to a host.
#[derive(Clone, Debug)]
pub struct Part {
    entries: Vec<Entry>,
    edits: Vec<Edit>,
    may_fail: bool,
}

/// Something that the usual host is not.
#[derive(Clone, Debug)]
enum Edit {
    Node(String, Node),
    Value(String, Live),
    Unit { name: &'static str, enabled: bool, active: bool, can_reload: bool, reads: Vec<&'static str> },
    Run(Vec<String>),
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for entry in &self.entries {
            writeln!(f, "{entry:?}")?;
        }
        for difference in base().differences(&self.world) {
            writeln!(f, "{difference}")?;
        }
        Ok(())
    }
}

fn entry(kind: &'static str, params: Value) -> Entry {
    Entry { kind, params, name: None, requires: vec![], notify: vec![] }
}

/// Makes the case of some parts.
pub fn case(parts: Vec<Part>) -> Case {
    let mut world = base();
    let mut case = Case { entries: vec![], world: World::default(), may_fail: false, notified: false };
    for part in parts {
        part.edits.iter().for_each(|edit| edit.make(&mut world));
        case.entries.extend(part.entries);
        case.may_fail |= part.may_fail;
    }
    case.world = world;
    case
}

impl Edit {
    fn make(&self, world: &mut World) {
        match self {
            Self::Node(path, node) => {
                world.place(path, node.clone());
            }
            Self::Value(path, live) => {
                world.value(path, live.clone());
            }
            Self::Unit { name, enabled, active, can_reload, reads } => {
                world.unit(name, *enabled, *active).unit_reads(name, reads);
                if let Some(unit) = world.units.get_mut(*name) {
                    unit.can_reload = *can_reload;
                }
            }
            Self::Run(argv) => {
                let mut host = host(std::mem::take(world));
                host.run_program(argv);
                *world = host.world;
            }
        }
    }
}

/// The usual host: Debian with systemd, root on a disk.
pub fn base() -> World {
    let mut world = World::new();
    for path in ["/run/systemd/system", "/etc/systemd/system", "/srv", "/mnt", "/etc/default", "/usr/sbin"] {
        world.make_directories(&AbsPath::known(path));
    }
    world
        .file("/etc/os-release", "ID=debian\nVERSION_ID=12\n")
        .file("/etc/passwd", "root:x:0:0::/root:/bin/sh\nqemu:x:107:36::/:/bin/false\n")
        .file("/etc/group", "root:x:0:\nkvm:x:36:\n")
        .file("/etc/fstab", "UUID=foreign / ext4 errors=remount-ro 0 1\n");
    for (path, text) in [
        ("/proc/sys/kernel/hostname", "kvm01"),
        ("/proc/sys/kernel/osrelease", "6.4.0"),
        ("/proc/sys/kernel/arch", "x86_64"),
        ("/proc/sys/kernel/random/boot_id", "b00t"),
        ("/proc/cmdline", "BOOT_IMAGE=/boot/vmlinuz-6.4.0 root=/dev/vda1 ro quiet"),
        ("/proc/meminfo", "MemTotal:       65536000 kB"),
        ("/proc/self/mountinfo", "1 0 8:1 / / rw,relatime - ext4 /dev/sda1 rw"),
    ] {
        world.value(path, Live::Plain(text.into()));
    }
    world
}

/// A host of a world with the programs that hosts have.
pub fn host(world: World) -> FakeHost {
    let ends = |status| Output { status, ..Output::from("") };
    FakeHost::new(world)
        .with_program("/usr/sbin/grub-mkconfig", grub_mkconfig)
        .with_program("/usr/sbin/grub2-mkconfig", grub_mkconfig)
        .with_program("grub-script-check", move |world, argv| ends(i32::from(world.text(&argv[1]).is_none())))
        .with_program("grub2-script-check", move |world, argv| ends(i32::from(world.text(&argv[1]).is_none())))
        .with_program("findmnt", move |world, argv| {
            let text = world.text(argv.last().map_or("", String::as_str)).unwrap_or_default();
            ends(i32::from(Fstab::parse(text.as_bytes()).is_err()))
        })
        .with_program("mount", |world, argv| told(mount(world, argv)))
        .with_program("umount", |world, argv| told(umount(world, argv.last().map_or("", String::as_str))))
        .with_program("udevadm", move |_, _| ends(0))
        .with_program("exists", move |world, argv| ends(i32::from(world.text(&argv[1]).is_none())))
        .with_program("make", move |world, argv| {
            world.file(&argv[1], "made\n");
            ends(0)
        })
        .with_program("unmake", move |world, argv| {
            world.nodes.remove(&AbsPath::known(&argv[1]));
            ends(0)
        })
        .with_program("judge", move |world, argv| {
            ends(i32::from(world.text(&argv[1]).is_none_or(|text| text.contains("bad"))))
        })
}

fn told(result: Result<(), String>) -> Output {
    match result {
        Ok(()) => "".into(),
        Err(words) => Output { status: 32, stdout: Bytes::default(), stderr: words.into() },
    }
}

const MOUNTINFO: &str = "/proc/self/mountinfo";

/// A model of mount(8): by /etc/fstab, or with everything named; `-o remount` changes what belongs to the mount point.
fn mount(world: &mut World, argv: &[String]) -> Result<(), String> {
    let (mut options, mut fstype, mut words) = (vec![], None, vec![]);
    let mut arguments = argv.iter().skip(1);
    while let Some(word) = arguments.next() {
        match word.as_str() {
            "-o" => options = split_options(arguments.next().ok_or("`-o` needs options")?),
            "-t" => fstype = arguments.next().cloned(),
            _ => words.push(word.clone()),
        }
    }
    let path = words.last().cloned().ok_or("nothing to mount")?;
    let text = world.text("/etc/fstab").unwrap_or_default();
    let fstab = Fstab::parse(text.as_bytes()).map_err(|error| error.to_string())?;
    let known = fstab.at(&path).map(|(_, entry)| entry.clone());
    let remount = options.iter().any(|option| option == "remount");
    options.retain(|option| option != "remount");
    if let Some(known) = known.as_ref().filter(|_| words.len() == 1) {
        options = known.options.iter().cloned().chain(options).collect();
    }
    let mut mounts = mounted(world)?;
    let at = mounts.iter().position(|line| line.split(' ').nth(4) == Some(&path));
    let (source, fstype) = match (words.as_slice(), known) {
        ([source, _], _) => (source.clone(), fstype.ok_or("which type?")?),
        (_, Some(entry)) => (entry.spec, entry.fstype),
        (_, None) if remount => (String::new(), String::new()),
        (_, None) => return Err(format!("can't find {path} in /etc/fstab")),
    };
    // Of options that contradict each other the last one counts.
    let last = |names: &[&'static str]| {
        let named = |option: &String| names.iter().copied().find(|name| name == option);
        options.iter().rev().find_map(named)
    };
    let write = last(&["ro", "rw"]).unwrap_or("rw");
    let time = last(&["noatime", "relatime"]).unwrap_or("relatime");
    let sync = last(&["sync", "async"]).filter(|word| *word == "sync");
    let closed = [last(&["nosuid", "suid"]), last(&["nodev", "dev"]), last(&["noexec", "exec"])];
    let closed = closed.into_iter().flatten().filter(|word| word.starts_with("no"));
    let own: Vec<&str> = [write, time].into_iter().chain(closed).collect();
    let own = own.join(",");
    if remount {
        let at = at.ok_or("not mounted")?;
        let (left, right) = mounts[at].split_once(" - ").ok_or("no mount")?;
        let mut left: Vec<&str> = left.split(' ').collect();
        let mut right: Vec<&str> = right.split(' ').collect();
        left[5] = &own;
        let kept = right[2].split(',').filter(|option| !["rw", "ro", "sync", "async"].contains(option));
        let mut shown: Vec<&str> = [write].into_iter().chain(sync).chain(kept).collect();
        shown.sort_unstable();
        let shown = shown.join(",");
        right[2] = &shown;
        mounts[at] = format!("{} - {}", left.join(" "), right.join(" "));
    } else {
        if at.is_some() {
            return Err(format!("{path} is mounted already"));
        }
        if !matches!(world.nodes.get(&AbsPath::known(&path)), Some(Node::Directory { .. })) {
            return Err(format!("{path}: mount point does not exist"));
        }
        let hidden = [
            "defaults", "_netdev", "nofail", "rw", "ro", "sync", "async", "noatime", "relatime", "nosuid", "nodev",
            "noexec",
        ];
        let mut shown: Vec<String> = [write].into_iter().chain(sync).map(String::from).collect();
        shown.extend(options.iter().filter(|option| !hidden.contains(&option.as_str())).cloned());
        if fstype.starts_with("nfs") {
            for (name, default) in [("vers", "vers=4.2"), ("rsize", "rsize=1048576")] {
                if !shown.iter().any(|option| option.starts_with(name)) {
                    shown.push(default.into());
                }
            }
            if !shown.iter().any(|option| option == "soft" || option == "hard") {
                shown.push("hard".into());
            }
        }
        shown.sort();
        let fstype = if fstype == "nfs" { "nfs4" } else { &fstype };
        mounts.push(format!("36 1 0:50 / {path} {own} - {fstype} {source} {}", shown.join(",")));
        mounts[1..].sort();
    }
    store(world, &mounts)
}

fn umount(world: &mut World, path: &str) -> Result<(), String> {
    let mut mounts = mounted(world)?;
    let before = mounts.len();
    mounts.retain(|line| line.split(' ').nth(4) != Some(path));
    if mounts.len() == before {
        return Err(format!("{path}: not mounted"));
    }
    store(world, &mounts)
}

fn mounted(world: &World) -> Result<Vec<String>, String> {
    Ok(world.text(MOUNTINFO).ok_or("no /proc")?.lines().map(String::from).collect())
}

fn store(world: &mut World, mounts: &[String]) -> Result<(), String> {
    let text = mounts.join("\n");
    mountinfo::parse(text.as_bytes()).map_err(|error| error.to_string())?;
    world.value(MOUNTINFO, Live::Plain(text));
    Ok(())
}

/// What a kind is tried with; `None` for a kind that nobody wrote a generator for.
pub fn of_kind(kind: &str) -> Option<BoxedStrategy<Part>> {
    Some(match kind {
        "assert" => asserts(),
        "command" => commands(),
        "directory" => directories(),
        "file" => files("/etc/app/a"),
        "kernel_cmdline" => command_lines(),
        "kernel_value" => kernel_values(),
        "mount" => mounts(),
        "service" => services(),
        "setting" => settings(),
        "symlink" => symlinks(),
        "sysctl" => sysctls(),
        "tmpfiles" => tmpfiles(),
        "udev_rule" => udev_rules(),
        _ => return None,
    })
}

/// Several kinds on one host, in any order of dependence that makes no cycle.
pub fn mixed() -> BoxedStrategy<Case> {
    let kinds: Vec<&str> = crate::resource::KINDS.iter().map(|kind| kind.name).collect();
    prop::sample::subsequence(kinds, 2..=5)
        .prop_flat_map(|kinds| {
            let parts: Vec<_> = kinds.iter().filter_map(|kind| of_kind(kind)).collect();
            (
                parts,
                prop::collection::vec(
                    (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<bool>()),
                    0..4,
                ),
            )
        })
        .prop_map(|(parts, edges)| {
            let mut case = case(parts);
            for (at, entry) in case.entries.iter_mut().enumerate() {
                entry.name = Some(format!("e{at}"));
            }
            for (one, other, notifies) in edges {
                let count = case.entries.len();
                let (one, other) = (one.index(count), other.index(count));
                let (first, second) = (one.min(other), one.max(other));
                let name = |at: usize| format!("e{at}");
                match notifies {
                    _ if first == second => {}
                    true => case.entries[first].notify.push(name(second)),
                    false => case.entries[second].requires.push(name(first)),
                }
            }
            case
        })
        .boxed()
}

/// A service that reads a file and a setting at its start, both of which notify it.
pub fn notifying() -> BoxedStrategy<Case> {
    (files("/etc/app/a"), settings(), select(vec!["restart", "reload"]), any::<bool>(), any::<bool>())
        .prop_map(|(file, mut setting, on_notify, can_reload, active)| {
            setting.edits.push(Edit::Unit {
                name: "app.service",
                enabled: true,
                active,
                can_reload,
                reads: vec![
                    "/etc/app/a",
                    "/etc/default/app",
                    "/etc/libvirt/qemu.conf",
                    "/etc/nfs.conf",
                    "/etc/xen/xl.conf",
                ],
            });
            let mut case = case(vec![file, setting]);
            for entry in &mut case.entries {
                entry.notify.push("service[app.service]".into());
            }
            case.entries.push(entry("service", json!({"name": "app", "on_notify": on_notify})));
            case.notified = true;
            case
        })
        .boxed()
}

fn file_node(content: &str, mode: u32, uid: u32) -> Node {
    let xattrs = [("security.selinux".to_string(), Bytes::from("etc_t"))].into();
    Node::File { content: content.into(), owner: Owner { mode, uid, gid: uid }, xattrs }
}

fn directory_node(mode: u32) -> Node {
    Node::Directory { owner: Owner::root(mode) }
}

fn link_node(target: &str) -> Node {
    Node::Link { target: target.into() }
}

const TEXTS: [&str; 4] = ["", "hello\n", "no newline", "héllo\r\nworld\r\n"];

/// What may stand where a file is wanted.
fn standing() -> BoxedStrategy<Option<Node>> {
    prop_oneof![
        4 => Just(None),
        8 => (select(&TEXTS[..]), select(vec![0o600, 0o644, 0o4755]), select(vec![0, 107])).prop_map(|(text, mode, uid)| Some(file_node(text, mode, uid))),
        1 => Just(Some(link_node("/etc/passwd"))),
        1 => Just(Some(directory_node(0o755))),
        1 => Just(Some(Node::Denied)),
    ]
    .boxed()
}

fn put(path: &str, node: Option<Node>) -> Vec<Edit> {
    node.map(|node| Edit::Node(path.into(), node)).into_iter().collect()
}

fn files(path: &'static str) -> BoxedStrategy<Part> {
    let wanted = prop_oneof![
        6 => (
            select(&TEXTS[..]),
            prop::option::of(select(vec!["0644", "0600", "0755"])),
            prop::option::weighted(0.3, select(vec!["qemu", "0", "107", "nobody"])),
            select(vec![None, None, Some("fine"), Some("bad")]),
        ).prop_map(|(text, mode, owner, judged)| {
            let mut params = json!({"content": text});
            if let Some(mode) = mode { params["mode"] = json!(mode); }
            if let Some(owner) = owner { params["owner"] = json!(owner); }
            if let Some(judged) = judged {
                params["content"] = json!(format!("{text}{judged}"));
                params["validate"] = json!(["judge", "{}"]);
            }
            (params, judged == Some("bad"))
        }),
        1 => Just((json!({"ensure": "absent"}), false)),
    ];
    let parent = prop::option::of(select(vec![0o755, 0o750]));
    (standing(), parent, wanted)
        .prop_map(move |(node, parent, (mut params, may_fail))| {
            params["path"] = json!(path);
            let mut edits = put(&path[..path.rfind('/').unwrap_or(0)], parent.map(directory_node));
            edits.extend(put(path, node));
            Part { entries: vec![entry("file", params)], edits, may_fail }
        })
        .boxed()
}

fn directories() -> BoxedStrategy<Part> {
    let path = "/srv/images/pool";
    let standing = prop_oneof![
        3 => Just(vec![]),
        4 => select(vec![0o755, 0o700, 0o2775]).prop_map(move |mode| put(path, Some(directory_node(mode)))),
        1 => Just([put(path, Some(directory_node(0o755))), put("/srv/images/pool/foreign", Some(file_node("x", 0o644, 0)))].concat()),
        1 => Just(put(path, Some(file_node("x", 0o644, 0)))),
        1 => Just(put(path, Some(link_node("/srv")))),
        1 => Just(put(path, Some(Node::Denied))),
    ];
    let wanted = prop_oneof![
        3 => (prop::option::of(select(vec!["0755", "0700"])), prop::option::of(select(vec!["qemu", "0", "nobody"])))
            .prop_map(|(mode, owner)| {
                let mut params = json!({});
                if let Some(mode) = mode { params["mode"] = json!(mode); }
                if let Some(owner) = owner { params["owner"] = json!(owner); }
                params
            }),
        1 => Just(json!({"ensure": "absent"})),
    ];
    (standing, wanted)
        .prop_map(move |(edits, mut params)| {
            params["path"] = json!(path);
            Part { entries: vec![entry("directory", params)], edits, may_fail: false }
        })
        .boxed()
}

fn symlinks() -> BoxedStrategy<Part> {
    let standing = prop_oneof![
        3 => Just(None),
        4 => select(vec!["/srv", "../srv/images", "/nowhere"]).prop_map(|target| Some(link_node(target))),
        1 => standing(),
    ];
    let wanted = prop_oneof![4 => select(vec![Some("/srv"), Some("../srv/images")]), 1 => Just(None)];
    (standing, wanted, any::<bool>())
        .prop_map(|(node, target, deep)| {
            let path = if deep { "/etc/libvirt/storage/images" } else { "/etc/images" };
            let params = match target {
                Some(target) => json!({"path": path, "target": target}),
                None => json!({"path": path, "ensure": "absent"}),
            };
            Part { entries: vec![entry("symlink", params)], edits: put(path, node), may_fail: false }
        })
        .boxed()
}

/// Lines of a file, some of them of others: with odd white space, another line end, or no newline at the end.
fn lines(pool: Vec<&'static str>) -> BoxedStrategy<String> {
    (prop::collection::vec(select(pool), 0..6), select(vec!["\n", "\n", "\n", "\r\n"]), any::<bool>())
        .prop_map(|(lines, end, last)| {
            let text = lines.join(end);
            if last && !text.is_empty() { text + end } else { text }
        })
        .boxed()
}

fn settings() -> BoxedStrategy<Part> {
    let kind = |file: &'static str,
                format: Option<&'static str>,
                section: Option<&'static str>,
                pool: Vec<&'static str>,
                broken: &'static str| {
        let text = prop_oneof![2 => Just(None), 9 => lines(pool).prop_map(Some), 1 => Just(Some(broken.to_string()))];
        let key = select(vec!["ALPHA", "beta"]);
        let value =
            prop_oneof![3 => select(vec![json!("new value"), json!(7), json!("old")]).prop_map(Some), 1 => Just(None)];
        let two = prop::collection::btree_map(key, value, 1..3);
        (text, two, select(vec![0o644, 0o600]))
            .prop_map(move |(text, settings, mode)| {
                let entries = settings.into_iter().map(|(key, value)| {
                    let mut params = json!({"file": file, "key": key});
                    match value {
                        Some(value) => params["value"] = value,
                        None => params["ensure"] = json!("absent"),
                    }
                    if let Some(format) = format {
                        params["format"] = json!(format);
                    }
                    if let Some(section) = section {
                        params["section"] = json!(section);
                    }
                    entry("setting", params)
                });
                Part {
                    entries: entries.collect(),
                    edits: put(file, text.map(|text| file_node(&text, mode, 0))),
                    may_fail: false,
                }
            })
            .boxed()
    };
    let shell = vec![
        "# foreign",
        "ALPHA=old",
        "  ALPHA='older' # kept\t ",
        "#beta=default",
        "FOREIGN=\"foreign\"   ",
        "",
        "export beta=\"old\"",
    ];
    let ini = vec!["[main]", "[nfsd]", "; foreign", "ALPHA=old", "  beta = old", "#ALPHA=1", "foreign =  foreign  "];
    let libvirt = vec![
        "# foreign",
        "ALPHA = \"old\"",
        "#beta = 1",
        "beta = 7",
        "foreign = [ \"a\", \"foreign\" ]",
        "",
        "   foreign_more=1   ",
    ];
    let xl = vec!["# foreign", "ALPHA=\"old\"", "#beta=1", "beta=7", "foreign=\"foreign\"", ""];
    prop_oneof![
        kind("/etc/default/app", None, None, shell, "ALPHA=\"open\n"),
        kind("/etc/nfs.conf", Some("ini"), Some("nfsd"), ini, "[nfsd\n"),
        kind("/etc/libvirt/qemu.conf", None, None, libvirt, "ALPHA = [\n"),
        kind("/etc/xen/xl.conf", None, None, xl, "ALPHA=\"open\n"),
    ]
    .boxed()
}

fn mounts() -> BoxedStrategy<Part> {
    let path = "/mnt/images";
    let known = select(vec![
        None,
        None,
        Some("nfs1:/images /mnt/images nfs hard 0 0"),
        Some("nfs1:/images\t/mnt/images   nfs\tdefaults,noatime\t0 0"),
        Some("nfs2:/other /mnt/images nfs ro,rsize=32768 0 0"),
        Some("/dev/sdb1 /mnt/images ext4 defaults 0 2"),
        Some("broken"),
    ]);
    let mounted = prop_oneof![
        3 => Just(vec![]),
        3 => Just(vec![vec!["mount", path]]),
        1 => Just(vec![vec!["mount", "-t", "nfs", "-o", "ro,vers=3", "nfs1:/images", path]]),
        1 => Just(vec![vec!["mount", "-t", "nfs", "-o", "soft", "nfs9:/elsewhere", path]]),
        1 => Just(vec![vec!["mount", path], vec!["mount", "-o", "remount,ro", path]]),
    ];
    let foreign = vec![
        "# foreign",
        "UUID=foreign /boot ext2\tdefaults  0 2   ",
        "",
        "#foreign\tx",
        "proc-foreign /proc proc defaults",
    ];
    let fstab = prop::collection::vec(select(foreign), 0..3);
    let wanted = (
        select(vec![("nfs1:/images", "nfs"), ("nfs1:/images", "nfs"), ("/dev/sdb1", "ext4")]),
        prop::collection::btree_set(select(vec!["hard", "noatime", "ro", "nofail", "rsize=32768", "vers=4.2"]), 0..3),
        select(vec!["mounted", "mounted", "mounted", "present", "absent"]),
    );
    (known, mounted, fstab, any::<bool>(), wanted)
        .prop_map(move |(known, mounted, mut fstab, last, ((source, fstype), options, ensure))| {
            fstab.sort_unstable();
            fstab.dedup();
            fstab.extend(known);
            let mut text = fstab.join("\n");
            if last && !text.is_empty() {
                text.push('\n');
            }
            let mut edits = vec![Edit::Node("/etc/fstab".into(), file_node(&text, 0o644, 0))];
            if !mounted.is_empty() {
                edits.push(Edit::Node(path.into(), directory_node(0o755)));
            }
            edits.extend(mounted.iter().map(|argv| Edit::Run(argv.iter().map(|word| (*word).into()).collect())));
            let params = match ensure {
                "absent" => json!({"path": path, "ensure": ensure}),
                _ => json!({"path": path, "source": source, "fstype": fstype, "ensure": ensure,
                            "options": options.into_iter().collect::<Vec<_>>()}),
            };
            Part { entries: vec![entry("mount", params)], edits, may_fail: false }
        })
        .boxed()
}

fn services() -> BoxedStrategy<Part> {
    let flag = || prop::option::of(any::<bool>());
    let unit = select(vec!["vendor", "vendor", "vendor", "vendor", "masked", "stale", "static", "missing", "own"]);
    (unit, any::<bool>(), any::<bool>(), flag(), flag(), prop::option::weighted(0.4, any::<bool>()))
        .prop_map(|(unit, is_enabled, is_active, enabled, running, masked)| {
            let mut params = json!({"name": "demo"});
            for (name, value) in [("enabled", enabled), ("running", running), ("masked", masked)] {
                let contradicts = masked == Some(true) && value == Some(true) && name != "masked";
                if let Some(value) = value.filter(|_| !contradicts) {
                    params[name] = json!(value);
                }
            }
            let mut entries = vec![entry("service", params)];
            let mut edits = vec![];
            let vendor = Edit::Unit {
                name: "demo.service",
                enabled: is_enabled,
                active: is_active,
                can_reload: true,
                reads: vec![],
            };
            let own = "/etc/systemd/system/demo.service";
            let text = "[Service]\nExecStart=/bin/demo\n[Install]\nWantedBy=multi-user.target\n";
            match unit {
                "missing" => {}
                "own" => entries.push(entry("file", json!({"path": own, "content": text}))),
                "static" => {
                    edits.push(Edit::Unit {
                        name: "demo.service",
                        enabled: false,
                        active: is_active,
                        can_reload: false,
                        reads: vec![],
                    });
                    edits.push(Edit::Node(
                        "/usr/lib/systemd/system/demo.service".into(),
                        file_node("[Service]\n", 0o644, 0),
                    ));
                    edits.push(Edit::Run(vec!["systemctl".into(), "daemon-reload".into()]));
                }
                "masked" => edits.extend([vendor, Edit::Node(own.into(), link_node("/dev/null"))]),
                "stale" => edits.extend([vendor, Edit::Node(own.into(), file_node(text, 0o644, 0))]),
                _ => edits.push(vendor),
            }
            Part { entries, edits, may_fail: false }
        })
        .boxed()
}

fn command_lines() -> BoxedStrategy<Part> {
    let pool = vec![
        "# foreign",
        "GRUB_DEFAULT=0 # foreign\t",
        "GRUB_CMDLINE_LINUX_DEFAULT=\"quiet splash\"",
        "GRUB_CMDLINE_LINUX_DEFAULT='quiet a=1'",
        "GRUB_CMDLINE_LINUX=\"z=1 b=2\"",
        "GRUB_TIMEOUT=\"5\"   ",
        "",
    ];
    let text = prop_oneof![9 => lines(pool), 1 => Just("GRUB_CMDLINE_LINUX_DEFAULT=\"$(cat /x)\"\n".to_string())];
    let parameters =
        prop::collection::btree_set(select(vec!["quiet", "a=1", "a=2", "c=3", "hugepagesz=2M hugepages=64"]), 0..3);
    let absent = prop::collection::btree_set(select(vec!["b", "splash"]), 0..2);
    let loader = select(vec!["debian", "debian", "debian", "suse", "suse", "none"]);
    let menu = select(vec!["fresh", "fresh", "fresh", "stale"]);
    (text, parameters, absent, loader, menu, any::<bool>())
        .prop_map(|(text, mut parameters, absent, loader, menu, two)| {
            if parameters.contains("a=1") {
                parameters.remove("a=2");
            }
            let mut params = json!({"parameters": parameters.iter().collect::<Vec<_>>(), "absent": absent});
            if parameters.is_empty() && absent.is_empty() {
                params["parameters"] = json!(["quiet"]);
            }
            let mut entries = vec![entry("kernel_cmdline", params)];
            if two {
                entries.push(entry("kernel_cmdline", json!({"parameters": ["d=4"]})));
            }
            let (mkconfig, script, menu_file) = match loader {
                "suse" => ("/usr/sbin/grub2-mkconfig", "#!/bin/sh\n", "/boot/grub2/grub.cfg"),
                _ => (
                    "/usr/sbin/grub-mkconfig",
                    "for x in ${sysconfdir}/default/grub.d/*.cfg ; do\n",
                    "/boot/grub/grub.cfg",
                ),
            };
            let node = |content: &str| file_node(content, 0o644, 0);
            let mut edits = vec![
                Edit::Node("/etc/default/grub".into(), node(&text)),
                Edit::Node("/boot/vmlinuz-6.4.0".into(), node("kernel")),
            ];
            if loader == "suse" {
                edits.push(Edit::Node("/etc/os-release".into(), node("ID=sles\nID_LIKE=suse\nVERSION_ID=15.6\n")));
                edits.push(Edit::Node("/etc/sysconfig/bootloader".into(), node("LOADER_TYPE=\"grub2-efi\"\n")));
            }
            if loader != "none" {
                edits.push(Edit::Node(mkconfig.into(), node(script)));
                edits.push(Edit::Node(menu_file.into(), file_node("# generated\n", 0o600, 0)));
                edits.push(Edit::Run(vec![mkconfig.into(), "-o".into(), menu_file.into()]));
                if menu == "stale" {
                    edits.push(Edit::Node("/boot/vmlinuz-6.5.0".into(), node("kernel")));
                }
            }
            Part { entries, edits, may_fail: false }
        })
        .boxed()
}

fn sysctls() -> BoxedStrategy<Part> {
    let own = "/etc/sysctl.d/90-vprov.conf";
    let values = prop::collection::btree_map(
        select(vec!["vm.swappiness", "fs.aio-max-nr", "net.ipv4.tcp_rmem", "vm.dirty_bytes", "kernel.no_such"]),
        select(vec![0usize, 1, 2]),
        1..4,
    );
    let file = select(vec![
        None,
        None,
        Some("# Written by vprov.\nvm.swappiness = 35\n"),
        Some("vm.swappiness = 60\nfs.aio-max-nr = 65536\n"),
        Some("what is this\n"),
    ]);
    let standing = prop_oneof![8 => file.prop_map(|text| text.map(|text| file_node(text, 0o644, 0))), 1 => Just(Some(link_node("/dev/null")))];
    (values, standing, any::<bool>(), select(vec![35, 60, 100]))
        .prop_map(move |(values, standing, later, swappiness)| {
            let mut entries = vec![];
            for (name, choice) in values {
                let value = match name {
                    "vm.swappiness" => ["35", "100", "0x3c"][choice],
                    "fs.aio-max-nr" => ["1048576", "65536", ""][choice],
                    "net.ipv4.tcp_rmem" => ["4096 87380 6291456", "4096  131072 6291456", ""][choice],
                    "vm.dirty_bytes" => ["268435456", "536870912", ""][choice],
                    _ => ["1", "2", ""][choice],
                };
                // A kernel parameter that does not exist is rare, else nothing but refusals would be seen.
                if name == "kernel.no_such" && choice != 1 {
                    continue;
                }
                entries.push(entry(
                    "sysctl",
                    match value {
                        "" => json!({"name": name, "ensure": "absent"}),
                        value => json!({"name": name, "value": value}),
                    },
                ));
            }
            if entries.is_empty() {
                entries.push(entry("sysctl", json!({"name": "vm.swappiness", "value": 35})));
            }
            let value = |path: &str, live| Edit::Value(path.into(), live);
            let coupled = |value, other: &str| Live::Coupled { value, zeroes: AbsPath::known(other) };
            let mut edits = vec![
                value("/proc/sys/vm/swappiness", Live::integer(swappiness, 0, 200)),
                value("/proc/sys/fs/aio-max-nr", Live::integer(65536, 0, i128::from(u32::MAX))),
                value("/proc/sys/net/ipv4/tcp_rmem", Live::Plain("4096\t131072\t6291456".into())),
                value("/proc/sys/vm/dirty_bytes", coupled(0, "/proc/sys/vm/dirty_ratio")),
                value("/proc/sys/vm/dirty_ratio", coupled(20, "/proc/sys/vm/dirty_bytes")),
            ];
            edits.extend(put(own, standing));
            if later {
                edits.extend(put("/etc/sysctl.d/99-foreign.conf", Some(file_node("vm.swappiness=1\n", 0o644, 0))));
            }
            Part { entries, edits, may_fail: false }
        })
        .boxed()
}

fn kernel_values() -> BoxedStrategy<Part> {
    let thp = "/sys/kernel/mm/transparent_hugepage/enabled";
    let pages = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
    let merge = "/sys/kernel/mm/ksm/merge_across_nodes";
    let wanted = prop_oneof![
        3 => select(vec!["madvise", "never", "always"]).prop_map(move |value| (json!({"path": thp, "value": value}), false)),
        1 => Just((json!({"path": thp, "value": "sometimes"}), false)),
        2 => select(vec![64, 128, 999]).prop_map(move |value| (json!({"path": pages, "value": value, "partial": true}), false)),
        1 => select(vec![64, 999]).prop_map(move |value| (json!({"path": pages, "value": value, "compare": "integer"}), value == 999)),
        1 => Just((json!({"path": "/sys/module/kvm/parameters/halt_poll_ns", "value": 5000}), true)),
        1 => select(vec![0, 1]).prop_map(move |value| (json!({"path": merge, "value": value}), false)),
        1 => any::<bool>().prop_map(|optional| (json!({"path": "/sys/none", "value": 1, "optional": optional}), false)),
    ];
    let shared = select(vec![0, 7]);
    (wanted, select(vec!["always [madvise] never", "[always] madvise never"]), select(vec![0, 64, 100]), shared)
        .prop_map(move |((params, may_fail), choices, pool, shared)| {
            let value = |path: &str, live| Edit::Value(path.into(), live);
            let edits = vec![
                value(thp, Live::choice(choices)),
                value(pages, Live::Pool { value: pool, limit: 256 }),
                value(
                    "/sys/module/kvm/parameters/halt_poll_ns",
                    Live::Integer { value: 100, min: 0, max: 1000, clamps: true },
                ),
                value("/sys/kernel/mm/ksm/run", Live::Coupled { value: 1, zeroes: AbsPath::known(SHARED) }),
                value(SHARED, Live::integer(shared, 0, 1000)),
                value(merge, Live::Busy { value: 1, unless_zero: AbsPath::known(SHARED) }),
            ];
            Part { entries: vec![entry("kernel_value", params)], edits, may_fail }
        })
        .boxed()
}

/// How many pages are merged: a statistic, which nobody restores.
pub const SHARED: &str = "/sys/kernel/mm/ksm/pages_shared";

fn tmpfiles() -> BoxedStrategy<Part> {
    let own = "/etc/tmpfiles.d/10-vprov-thp.conf";
    let defrag = "/sys/kernel/mm/thp/defrag";
    let scan = "/sys/kernel/mm/thp/scan";
    let rule = prop_oneof![
        2 => select(vec!["madvise", "never"]).prop_map(move |value| json!({"path": defrag, "argument": value})),
        1 => Just(json!({"path": "/sys/kernel/mm/thp/sc*", "argument": 100})),
        1 => Just(json!({"path": "/sys/kernel/mm/thp/absent", "argument": 1})),
        1 => Just(json!({"type": "d", "path": "/run/demo", "mode": "0755"})),
        1 => Just(json!({"path": defrag, "argument": "sometimes"})),
    ];
    let rules = prop_oneof![5 => prop::collection::vec(rule, 1..3), 1 => Just(vec![])];
    let standing = prop_oneof![
        3 => Just(None),
        2 => Just(Some(file_node("w /sys/kernel/mm/thp/defrag - - - - never\n", 0o644, 0))),
        1 => Just(Some(file_node("# nothing\n", 0o600, 0))),
        1 => Just(Some(Node::Denied)),
    ];
    (rules, standing, any::<bool>())
        .prop_map(move |(mut rules, standing, earlier)| {
            rules.dedup_by_key(|rule| rule["path"].clone());
            let params = match rules.is_empty() {
                true => json!({"name": "thp", "ensure": "absent"}),
                false => json!({"name": "thp", "rules": rules}),
            };
            let mut edits = put(own, standing);
            edits.push(Edit::Value(defrag.into(), Live::choice("[always] madvise never")));
            edits.push(Edit::Value(scan.into(), Live::integer(4096, 0, 100_000)));
            if earlier {
                edits.extend(put(
                    "/etc/tmpfiles.d/00-foreign.conf",
                    Some(file_node("w /sys/kernel/mm/thp/defrag - - - - always\n", 0o644, 0)),
                ));
            }
            Part { entries: vec![entry("tmpfiles", params)], edits, may_fail: false }
        })
        .boxed()
}

fn udev_rules() -> BoxedStrategy<Part> {
    let own = "/etc/udev/rules.d/90-vprov-kvm.rules";
    let rule = "KERNEL==\"kvm\", MODE=\"0660\"";
    let standing = prop_oneof![
        2 => Just(None),
        2 => select(vec!["# c\nKERNEL==\"kvm\", MODE=\"0660\"\n", "KERNEL==\"x\"\n"]).prop_map(|text| Some(file_node(text, 0o644, 0))),
        1 => select(vec![Node::Denied, link_node("/dev/null")]).prop_map(Some),
    ];
    (standing, prop::bool::weighted(0.8), any::<bool>())
        .prop_map(move |(standing, present, runs)| {
            let params = match present {
                true => json!({"name": "kvm", "rules": [rule]}),
                false => json!({"name": "kvm", "ensure": "absent"}),
            };
            let mut edits = put(own, standing);
            if runs {
                edits.push(Edit::Node("/run/udev/control".into(), Node::Special));
            }
            Part { entries: vec![entry("udev_rule", params)], edits, may_fail: false }
        })
        .boxed()
}

/// What a program made that nothing takes back.
pub const KEPT: &str = "/srv/kept";

fn commands() -> BoxedStrategy<Part> {
    let made = select(vec!["/srv/made", KEPT]);
    let standing =
        prop_oneof![3 => Just(None), 2 => Just(Some(file_node("made\n", 0o644, 0))), 1 => Just(Some(Node::Denied))];
    (made, standing, any::<bool>(), prop::bool::weighted(0.2))
        .prop_map(|(path, standing, unless, fails)| {
            let unless = unless && standing != Some(Node::Denied);
            let mut params = json!({"argv": [if fails { "fail" } else { "make" }, path]});
            params[if unless { "unless" } else { "creates" }] =
                if unless { json!(["exists", path]) } else { json!(path) };
            if path != KEPT {
                params["undo"] = json!(["unmake", path]);
            }
            Part { entries: vec![entry("command", params)], edits: put(path, standing), may_fail: fails }
        })
        .boxed()
}

fn asserts() -> BoxedStrategy<Part> {
    let by_program = any::<bool>().prop_map(|flag| {
        let edits = put("/srv/flag", flag.then(|| file_node("", 0o644, 0)));
        (json!({"command": ["exists", "/srv/flag"], "message": "no flag"}), edits)
    });
    let by_value = prop::bool::weighted(0.7).prop_map(|that| (json!({"that": that, "message": "not so"}), vec![]));
    prop_oneof![by_program, by_value]
        .prop_map(|(params, edits)| Part { entries: vec![entry("assert", params)], edits, may_fail: false })
        .boxed()
}
