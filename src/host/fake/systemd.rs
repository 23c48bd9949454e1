//! A model of systemd: units that are files, links that enable and mask them, and processes that keep what they read at their start.

use std::collections::BTreeMap;

use super::world::{Node, World};
use crate::host::{
    bytes::{Bytes, Digest},
    path::AbsPath,
    read::Output,
};

/// What systemd knows of a unit beyond its file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    /// Whether it runs.
    pub active: bool,
    /// Whether it can reload.
    pub can_reload: bool,
    /// The configuration files that it reads when it starts.
    pub reads: Vec<AbsPath>,
    /// What they held when it last started or reloaded.
    pub loaded: BTreeMap<AbsPath, Option<Digest>>,
    /// The unit file as systemd has it in memory.
    pub fragment: Option<Digest>,
}

const DIRECTORIES: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
const WANTS: &str = "/etc/systemd/system/multi-user.target.wants";

impl World {
    /// Adds a unit of the distribution: its file, and whether it is enabled and runs.
    pub fn unit(&mut self, name: &str, enabled: bool, active: bool) -> &mut Self {
        let path = format!("/usr/lib/systemd/system/{name}");
        self.file(&path, format!("[Unit]\nDescription={name}\n[Install]\nWantedBy=multi-user.target\n"));
        if enabled {
            self.link(&format!("{WANTS}/{name}"), &path);
        }
        let fragment = fragment(self, name).map(|(_, digest)| digest);
        self.units.insert(name.into(), Unit { active, fragment, ..Unit::default() });
        self
    }

    /// Names configuration files that a unit reads when it starts; it has them as they are now.
    pub fn unit_reads(&mut self, name: &str, paths: &[&str]) -> &mut Self {
        let reads: Vec<AbsPath> = paths.iter().map(|path| AbsPath::known(path)).collect();
        let loaded = load(self, &reads);
        let unit = self.units.entry(name.into()).or_default();
        (unit.reads, unit.loaded) = (reads, loaded);
        self
    }

    /// Returns the units that run with another configuration than their files hold now.
    #[must_use]
    pub fn outdated_units(&self) -> Vec<String> {
        let outdated = |unit: &&Unit| unit.active && unit.loaded != load(self, &unit.reads);
        self.units.iter().filter(|(_, unit)| outdated(unit)).map(|(name, _)| name.clone()).collect()
    }
}

fn load(world: &World, reads: &[AbsPath]) -> BTreeMap<AbsPath, Option<Digest>> {
    let digest = |path: &AbsPath| world.text(path.as_str()).map(|text| Digest::of(text.as_bytes()));
    reads.iter().map(|path| (path.clone(), digest(path))).collect()
}

fn fragment(world: &World, name: &str) -> Option<(String, Digest)> {
    DIRECTORIES.iter().map(|directory| format!("{directory}/{name}")).find_map(|path| {
        let text = world.text(&path)?;
        Some((path, Digest::of(text.as_bytes())))
    })
}

fn is_masked(world: &World, name: &str) -> bool {
    let path = AbsPath::new(format!("/etc/systemd/system/{name}"));
    matches!(path.map(|path| world.nodes.get(&path)), Ok(Some(Node::Link { target })) if target == "/dev/null")
}

fn wanted(name: &str) -> AbsPath {
    AbsPath::known(&format!("{WANTS}/{name}"))
}

fn property(world: &World, name: &str, property: &str) -> String {
    let unit = world.units.get(name);
    let file = fragment(world, name);
    let masked = is_masked(world, name);
    let active = unit.is_some_and(|unit| unit.active);
    let yes = |flag: bool| if flag { "yes" } else { "no" }.to_string();
    match property {
        "Id" | "Names" => name.into(),
        "LoadState" if masked => "masked".into(),
        "LoadState" => if file.is_some() { "loaded" } else { "not-found" }.into(),
        "ActiveState" => if active { "active" } else { "inactive" }.into(),
        "SubState" => if active { "running" } else { "dead" }.into(),
        "UnitFileState" if masked => "masked".into(),
        "UnitFileState" => match &file {
            None => String::new(),
            Some(_) if world.nodes.contains_key(&wanted(name)) => "enabled".into(),
            Some((path, _)) => {
                let installs = world.text(path).is_some_and(|text| text.contains("[Install]"));
                if installs { "disabled" } else { "static" }.into()
            }
        },
        "FragmentPath" => file.map(|(path, _)| path).unwrap_or_default(),
        "NeedDaemonReload" => yes(unit.is_some_and(|unit| unit.fragment != file.map(|(_, digest)| digest))),
        "CanReload" => yes(unit.is_some_and(|unit| unit.can_reload)),
        "CanStart" | "CanStop" => yes(file.is_some()),
        _ => String::new(),
    }
}

/// Does what `systemctl` with these arguments does.
pub fn systemctl(world: &mut World, argv: &[String]) -> Output {
    let output =
        |status, stdout: String, stderr: String| Output { status, stdout: stdout.into(), stderr: stderr.into() };
    let mut words: Vec<&str> = vec![];
    let mut properties: Vec<&str> = vec![];
    let mut now = false;
    let mut arguments = argv.iter().skip(1).map(String::as_str);
    while let Some(word) = arguments.next() {
        match word {
            "-p" | "--property" => properties.extend(arguments.next().unwrap_or("").split(',')),
            "--now" => now = true,
            word if word.starts_with("--property=") => properties.extend(word["--property=".len()..].split(',')),
            word if word.starts_with('-') => {}
            word => words.push(word),
        }
    }
    let Some((verb, names)) = words.split_first() else { return output(0, String::new(), String::new()) };
    match *verb {
        "show" => {
            let show = |name: &&str| -> String {
                properties.iter().map(|key| format!("{key}={}\n", property(world, name, key))).collect()
            };
            output(0, names.iter().map(show).collect::<Vec<_>>().join("\n"), String::new())
        }
        "is-system-running" => output(0, "running\n".into(), String::new()),
        "daemon-reload" => {
            let names: Vec<String> = world.units.keys().cloned().collect();
            for name in names {
                let digest = fragment(world, &name).map(|(_, digest)| digest);
                let unit = world.units.entry(name.clone()).or_default();
                unit.fragment = digest;
                if digest.is_none() && !unit.active {
                    world.units.remove(&name);
                }
            }
            output(0, String::new(), String::new())
        }
        verb => {
            for name in names {
                if let Err(error) = act(world, verb, name, now) {
                    return output(1, String::new(), error);
                }
            }
            output(0, String::new(), String::new())
        }
    }
}

fn act(world: &mut World, verb: &str, name: &str, now: bool) -> Result<(), String> {
    let mask = AbsPath::new(format!("/etc/systemd/system/{name}")).map_err(|error| error.to_string())?;
    let file = fragment(world, name);
    match verb {
        "mask" => {
            if matches!(world.nodes.get(&mask), Some(Node::File { .. })) {
                return Err(format!("Failed to mask unit: File {mask} already exists."));
            }
            world.link(mask.as_str(), "/dev/null");
            return if now { act(world, "stop", name, false) } else { Ok(()) };
        }
        "unmask" => {
            if is_masked(world, name) {
                world.nodes.remove(&mask);
            }
            return Ok(());
        }
        "disable" => {
            world.nodes.remove(&wanted(name));
            // It takes the directory with its last link (systemd src/shared/install.c, `remove_marked_symlinks_fd`).
            let wants = AbsPath::known(WANTS);
            if world.names_in(&wants).is_empty() {
                world.nodes.remove(&wants);
            }
            return if now { act(world, "stop", name, false) } else { Ok(()) };
        }
        _ => {}
    }
    if let ("stop", Some(unit)) = (verb, world.units.get_mut(name)) {
        // What systemd has in memory it can stop, whatever became of the file.
        unit.active = false;
        return Ok(());
    }
    let Some((path, digest)) = file else { return Err(format!("Unit {name} not found.")) };
    if is_masked(world, name) && verb != "stop" {
        return Err(format!("Unit {name} is masked."));
    }
    if verb == "enable" {
        world.link(wanted(name).as_str(), &path);
        return if now { act(world, "start", name, false) } else { Ok(()) };
    }
    let reads = world.units.get(name).map(|unit| unit.reads.clone()).unwrap_or_default();
    let loaded = load(world, &reads);
    let unit = world.units.entry(name.into()).or_insert_with(|| Unit { fragment: Some(digest), ..Unit::default() });
    match verb {
        "start" if unit.active => {}
        "start" | "restart" | "reload-or-restart" => (unit.active, unit.loaded) = (true, loaded),
        "try-restart" | "try-reload-or-restart" => {
            if unit.active {
                unit.loaded = loaded;
            }
        }
        "reload" if unit.active && unit.can_reload => unit.loaded = loaded,
        "reload" => return Err(format!("Job type reload is not applicable for unit {name}.")),
        "stop" => unit.active = false,
        verb => return Err(format!("Unknown command verb {verb}.")),
    }
    Ok(())
}

impl From<&str> for Output {
    /// A program that printed this and ended with 0.
    fn from(stdout: &str) -> Self {
        Self { status: 0, stdout: stdout.into(), stderr: Bytes::default() }
    }
}
