//! Each module and playbook that is part of vprov, compiled for hosts of different distributions: what it declares, and what it
//! refuses.

#![expect(clippy::disallowed_methods, reason = "inventories are written to a temporary directory")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{fs, sync::Arc};

use vprov::{
    catalog::{self, Catalog},
    config::{LoadOptions, Project, embedded},
    diag::{Diagnostics, SourceMap},
    facts::{self, Facts},
    graph::Graph,
    host::observed::Observed,
    resource::{AnyResource, Seen, registry::Registry},
};

const GIB: u64 = 1 << 30;

/// A host of Debian with two nodes of 32 GiB.
fn debian() -> Facts {
    let mut facts = Facts { init: "systemd".into(), transparent_hugepages: true, ksm: true, ..Facts::default() };
    facts.os.id = "debian".into();
    facts.kernel.version = "6.1".into();
    facts.kernel.arch = "x86_64".into();
    facts.virt.kvm = true;
    facts.memory = facts::Memory { total: 64 * GIB - GIB, installed_gib: 64 };
    facts.hugepages = facts::HugePages { sizes: vec!["2M".into(), "1G".into()], default_size: "2M".into() };
    let disk = |schedulers: &[&str], scheduler: &str| facts::Disk {
        rotational: false,
        schedulers: schedulers.iter().map(|name| (*name).into()).collect(),
        scheduler: scheduler.into(),
    };
    facts.disks.insert("sda".into(), disk(&["none", "mq-deadline"], "none"));
    facts.disks.insert("zram0".into(), disk(&[], ""));
    facts
}

/// A host of SLES 12 with the I/O schedulers of its kernel.
fn suse() -> Facts {
    let mut facts = debian();
    facts.os.id = "sles".into();
    facts.kernel.version = "4.12".into();
    let sda = facts.disks.get_mut("sda").unwrap();
    sda.schedulers = ["noop", "deadline", "cfq"].map(Into::into).into();
    sda.scheduler = "cfq".into();
    facts
}

/// A paravirtualized dom0.
fn dom0() -> Facts {
    let mut facts = Facts { init: "systemd".into(), ..Facts::default() };
    facts.virt.xen = true;
    facts.virt.dom0 = true;
    facts.memory = facts::Memory { total: 4 * GIB, installed_gib: 128 };
    facts
}

/// Loads an inventory of one host and builds its catalog; the error is all that was said.
fn catalog(hosts: &str, facts: &Facts) -> Result<Catalog, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hosts.yaml");
    fs::write(&path, hosts).unwrap();
    let sources = Arc::new(SourceMap::new());
    let schema = serde_json::to_value(facts::tree()).unwrap();
    let options = LoadOptions { embedded: embedded::FILES, facts: Some(schema), ..LoadOptions::default() };
    let said = |errors: Diagnostics| {
        let one = |error: &vprov::diag::Diagnostic| {
            let place = error.labels.first().map(|label| sources.place(label.span)).unwrap_or_default();
            format!("{}: {} {}", place.rsplit('/').next().unwrap_or_default(), error.summary, error.help.join("; "))
        };
        errors.iter().map(one).collect::<Vec<_>>().join("\n")
    };
    let (project, _) = Project::load(&path, &options, &Registry, &sources).map_err(said)?;
    let declared = project.expand(&project.hosts()[0], &facts.to_value()).map_err(said)?;
    let catalog = catalog::build(declared).map_err(said)?;
    Graph::build(&catalog).map_err(said)?;
    Ok(catalog)
}

fn with(entry: &str) -> String {
    format!("hosts: {{ h: {{ resources: [ {entry} ] }} }}\n")
}

/// Checks the addresses that an entry declares on a host, and returns the catalog.
fn check(entry: &str, facts: &Facts, expected: &[&str]) -> Catalog {
    let catalog = catalog(&with(entry), facts).unwrap_or_else(|error| panic!("{entry}: {error}"));
    let found: Vec<String> = catalog.entries.iter().map(|entry| entry.address.to_string()).collect();
    assert_eq!(found, expected, "{entry}");
    catalog
}

/// Returns what a resource of a catalog is, in the words of its kind.
fn shown(catalog: &Catalog, address: &str) -> String {
    let entry = catalog.entries.iter().find(|entry| entry.address.to_string() == address);
    format!("{:?}", entry.unwrap_or_else(|| panic!("no {address}")).resource)
}

fn refused(entry: &str, facts: &Facts, words: &str) {
    let error = catalog(&with(entry), facts).map(|catalog| format!("{catalog:?}")).expect_err(entry);
    assert!(error.contains(words), "{entry}: {error}");
}

/// Tells whether all assertions of a catalog hold.
fn holds(catalog: &Catalog, facts: &Facts) -> bool {
    let observed = Observed::default();
    let seen = Seen { observed: &observed, facts, offline: false };
    let assertions = catalog.entries.iter().filter(|entry| entry.resource.is_preflight());
    assertions.map(|entry| AnyResource::compare(&*entry.resource, &seen)).all(|comparison| comparison.result.is_ok())
}

#[test]
fn huge_pages_are_one_block_with_pools_and_mounts() {
    let entry = "hugepages: { default_size: 1G, pages: { 2M: 512, 1G: 16 } }";
    let found = catalog(&with(entry), &debian()).unwrap();
    assert!(holds(&found, &debian()));
    let line = shown(&found, "kernel_cmdline[boot]");
    assert!(line.contains("default_hugepagesz=1G hugepagesz=1G hugepages=16 hugepagesz=2M hugepages=512"), "{line}");
    let unit = shown(&found, "file[/etc/systemd/system/dev-hugepages2M.mount]");
    assert!(unit.contains("Options=pagesize=2M") && unit.contains("hugepages-2048kB"), "{unit}");
    assert!(shown(&found, "service[dev-hugepages2M.mount]").contains("enabled: Some(true)"));
    shown(&found, "kernel_value[/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages]");
    assert_eq!(found.entries.len(), 8);
    // Counts for single nodes are for the boot alone; sizes that the kernel does not offer have no pool.
    let nodes = catalog(&with("hugepages: { pages: { 2M: \"0:8,1:8\" }, mounts: false }"), &debian()).unwrap();
    assert!(shown(&nodes, "kernel_cmdline[boot]").contains("hugepagesz=2M hugepages=0:8,1:8"));
    assert_eq!(nodes.entries.len(), 3, "{nodes:?}");
}

#[test]
fn huge_pages_leave_the_host_its_memory() {
    let check = |facts: &Facts, parameters: &str, expected: bool| {
        let found = catalog(&with(&format!("hugepages: {{ {parameters} }}")), facts).unwrap();
        assert_eq!(holds(&found, facts), expected, "{parameters}");
    };
    check(&debian(), "pages: { 1G: 56 }", true);
    check(&debian(), "pages: { 1G: 57 }", false);
    check(&debian(), "pages: { 1G: 60 }, reserve: 4G", true);
    check(&debian(), "pages: { 1G: 61 }, reserve: 4G", false);
    check(&dom0(), "pages: { 2M: 1 }", false);
    refused("hugepages: { pages: { 1G: -1 } }", &debian(), "hosts.yaml:1:");
    refused("hugepages: { pages: 4 }", &debian(), "expected a map");
    refused("hugepages: { size: 1G }", &debian(), "no parameter `size`");
}

#[test]
fn transparent_huge_pages_are_told_where_there_are_none() {
    let entry = "transparent_hugepages: { enabled: madvise, defrag: defer }";
    let live = "kernel_value[/sys/kernel/mm/transparent_hugepage/enabled]";
    let defrag = "kernel_value[/sys/kernel/mm/transparent_hugepage/defrag]";
    for facts in [debian(), suse()] {
        let found = check(entry, &facts, &["kernel_cmdline[boot]", defrag, live, "tmpfiles[thp-defrag]"]);
        assert!(shown(&found, "kernel_cmdline[boot]").contains("transparent_hugepage=madvise"));
    }
    let found = check("transparent_hugepages: {}", &dom0(), &[live]);
    assert!(shown(&found, live).contains("optional: true"));
    check("transparent_hugepages: { method: tmpfiles }", &debian(), &[live, "tmpfiles[thp]"]);
    refused("transparent_hugepages: { enabled: sometimes }", &debian(), "hosts.yaml:1");
}

#[test]
fn dom0_is_on_the_line_of_xen() {
    let entry = "xen_dom0: { dom0_mem: \"4G,max:4G\", max_vcpus: 4 }";
    let found = check(entry, &dom0(), &["kernel_cmdline[boot]", "setting[/etc/xen/xl.conf:autoballoon]"]);
    let line = shown(&found, "kernel_cmdline[boot]");
    assert!(line.contains("target: Xen") && line.contains("dom0_mem=4G,max:4G") && line.contains("dom0_max_vcpus=4"));
    check(
        "xen_dom0: { dom0_mem: 1G+10% }",
        &dom0(),
        &["kernel_cmdline[boot]", "setting[/etc/xen/xl.conf:autoballoon]"],
    );
    for wrong in ["10%+1G", "4", "4Q", "max:", "110%"] {
        refused(&format!("xen_dom0: {{ dom0_mem: \"{wrong}\" }}"), &dom0(), "hosts.yaml:1");
    }
    refused("xen_dom0: { max_vcpus: some }", &dom0(), "does not match");
}

#[test]
fn schedulers_have_the_names_that_the_kernel_has() {
    let entry = "io_scheduler: { devices: { sda: mq-deadline } }";
    let live = "kernel_value[/sys/block/sda/queue/scheduler]";
    let found = check(entry, &debian(), &[live, "udev_rule[iosched-sda]"]);
    assert!(shown(&found, live).contains("mq-deadline"));
    let rule = shown(&found, "udev_rule[iosched-sda]");
    assert!(
        rule.contains(r#"KERNEL==\"sda\", ATTR{queue/scheduler}!=\"none\", ATTR{queue/scheduler}=\"mq-deadline\""#),
        "{rule}"
    );
    let found = check(entry, &suse(), &[live, "udev_rule[iosched-sda]"]);
    assert!(shown(&found, live).contains("\"deadline\""), "{}", shown(&found, live));
    assert!(shown(&found, "udev_rule[iosched-sda]").contains(r#"scheduler}=\"deadline\""#));
    let found = check(
        "io_scheduler: { devices: { sda: none, vdz: none }, method: tmpfiles }",
        &suse(),
        &["tmpfiles[iosched-sda]", "tmpfiles[iosched-vdz]"],
    );
    assert!(shown(&found, "tmpfiles[iosched-sda]").contains("\"noop\""));
    assert!(shown(&found, "tmpfiles[iosched-vdz]").contains("\"none\""));
    refused("io_scheduler: { devices: { sda: 'a\"b' } }", &debian(), "hosts.yaml:1:");
}

#[test]
fn ksm_runs_after_its_values_are_set() {
    let found = check(
        "ksm: { pages_to_scan: 1000, sleep_millisecs: 200, merge_across_nodes: false }",
        &debian(),
        &[
            "kernel_value[/sys/kernel/mm/ksm/merge_across_nodes]",
            "kernel_value[/sys/kernel/mm/ksm/pages_to_scan]",
            "kernel_value[/sys/kernel/mm/ksm/run]",
            "kernel_value[/sys/kernel/mm/ksm/sleep_millisecs]",
            "service[ksm.service]",
            "tmpfiles[ksm]",
        ],
    );
    let rules = shown(&found, "tmpfiles[ksm]");
    assert!(rules.find("merge_across_nodes").unwrap() < rules.find("ksm/run").unwrap(), "{rules}");
    let run = found.entries.iter().find(|entry| entry.address.to_string().contains("ksm/run")).unwrap();
    assert_eq!(run.requires.len(), 3);
    let off = ["kernel_value[/sys/kernel/mm/ksm/run]", "service[ksm.service]", "tmpfiles[ksm]"];
    let found = check("ksm: { enabled: false, unmerge: true }", &debian(), &off);
    assert!(shown(&found, off[0]).contains("\"2\""), "{}", shown(&found, off[0]));
    refused("ksm: { pages_to_scan: 0 }", &debian(), "below the minimum");
}

#[test]
fn images_are_mounted_with_the_options_of_a_network() {
    let entry = "nfs_mount: { source: \"nfs1:/images\", path: /mnt/images, options: [hard, rsize=1048576] }";
    let found = check(entry, &debian(), &["mount[/mnt/images]"]);
    let mount = shown(&found, "mount[/mnt/images]");
    assert!(mount.contains(r#"options: ["hard", "rsize=1048576", "_netdev", "nofail"]"#), "{mount}");
    refused("nfs_mount: { source: nfs1, path: /mnt }", &debian(), "does not match");
    refused("nfs_mount: { source: \"nfs1:/a\", path: mnt }", &debian(), "relative path");
}

#[test]
fn numbers_have_their_ranges() {
    let found = check("swappiness: {}", &debian(), &["sysctl[vm.swappiness]"]);
    assert!(shown(&found, "sysctl[vm.swappiness]").contains("35"));
    refused("swappiness: { value: 250 }", &debian(), "above the maximum of 200");
    check("aio_max_nr: {}", &debian(), &["sysctl[fs.aio-max-nr]"]);
    refused("aio_max_nr: { value: 1 }", &debian(), "below the minimum");
}

#[test]
fn playbooks_compile_for_each_host() {
    let of = |playbook: &str, vars: &str, facts: &Facts| -> Vec<String> {
        let hosts = format!("hosts: {{ h: {{ playbooks: [{playbook}], vars: {{ {vars} }} }} }}\n");
        let found = catalog(&hosts, facts).unwrap_or_else(|error| panic!("{playbook}: {error}"));
        assert!(holds(&found, facts), "{playbook}");
        found.entries.iter().map(|entry| entry.address.to_string()).collect()
    };
    let has = |found: &[String], words: &str| found.iter().any(|address| address.contains(words));
    for facts in [debian(), suse()] {
        let found = of("kvm-host", "image_server: nfs1.example.net, schedulers: { sda: mq-deadline }", &facts);
        for words in
            ["1048576kB", "kernel_cmdline", "sysctl.d/90-vprov.conf", "udev_rule", "ksm/run", "mount[/mnt/images]"]
        {
            assert!(has(&found, words), "{words}: {found:?}");
        }
    }
    let small = Facts { memory: facts::Memory { total: 8 * GIB, installed_gib: 8 }, ..debian() };
    assert!(!has(&of("kvm-host", "", &small), "hugepages"));
    assert!(has(&of("xen-host", "", &dom0()), "xl.conf"));
    let guest = of("guest", "", &debian());
    assert!(has(&guest, "iosched-sda") && !has(&guest, "zram0"), "{guest:?}");
    // Below a root, and in a container, the kernel tells nothing.
    for playbook in ["kvm-host", "xen-host", "guest"] {
        of(playbook, "", &Facts::default());
    }
}

#[test]
fn each_file_is_described() {
    let sources = SourceMap::new();
    let options = LoadOptions { embedded: embedded::FILES, ..LoadOptions::default() };
    let library = vprov::config::load_library(&options, &sources).unwrap();
    assert_eq!(library.all().len(), embedded::FILES.len());
    for module in library.all() {
        assert!(!module.description.is_empty(), "{}", module.name);
        assert!(module.guide.is_some(), "{}", module.name);
        for parameter in &module.parameters {
            assert!(!parameter.description.is_empty(), "{}: {}", module.name, parameter.name);
        }
    }
}
