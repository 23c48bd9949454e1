//! systemd: names of units, what `systemctl show` says of one, and the commands that change it (systemctl(1)).

use serde::{Deserialize, Serialize};

use crate::host::path::AbsPath;

/// The properties that [`show`] asks for; a probe of a unit asks for the same, so that all units are asked for in one run.
pub const PROPERTIES: &str = "Id,Names,LoadState,ActiveState,SubState,UnitFileState,UnitFilePreset,FragmentPath,SourcePath,\
    DropInPaths,NeedDaemonReload,CanReload,TriggeredBy,Result";

/// Whether systemd has a unit, and could read it (systemctl(1), `LoadState`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LoadState {
    /// It is there and good.
    Loaded,
    /// There is no such unit.
    NotFound,
    /// It is a link to `/dev/null`: nothing can start it.
    Masked,
    /// Its file holds a setting that systemd does not take.
    BadSetting,
    /// Its file cannot be read.
    Error,
    /// A word that this vprov does not know.
    Other(String),
}

/// What a unit does now (`ActiveState`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActiveState {
    /// It runs, or has run and counts as up (a oneshot that remains).
    Active,
    /// It runs and reads its configuration again.
    Reloading,
    /// It is down.
    Inactive,
    /// It has failed.
    Failed,
    /// It comes up.
    Activating,
    /// It goes down.
    Deactivating,
    /// A word that this vprov does not know.
    Other(String),
}

/// What the next boot does with a unit (`UnitFileState`, systemctl(1) `is-enabled`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnitFileState {
    /// Links of its [Install] section are in /etc.
    Enabled,
    /// Links of its [Install] section are in /run: until the next boot.
    EnabledRuntime,
    /// Its file lies outside of the search path and is linked into it.
    Linked,
    /// As `linked`, until the next boot.
    LinkedRuntime,
    /// The name is another name of an enabled unit.
    Alias,
    /// It is a link to `/dev/null` in /etc.
    Masked,
    /// It is a link to `/dev/null` in /run.
    MaskedRuntime,
    /// It has no [Install] section: `enable` says so, changes nothing and returns 0.
    Static,
    /// It has only `Also=` in its [Install] section.
    Indirect,
    /// It has an [Install] section of which no link is there.
    Disabled,
    /// A generator made it, for example from fstab.
    Generated,
    /// It was made at run time.
    Transient,
    /// Its file cannot be used.
    Bad,
    /// There is no unit, or it has no file.
    None,
    /// A word that this vprov does not know.
    Other(String),
}

macro_rules! words {
    ($state:ident, $($word:literal => $variant:ident),+) => {
        impl $state {
            /// Reads the word of systemctl.
            #[must_use]
            pub fn from_word(word: &str) -> Self {
                match word {
                    $($word => Self::$variant,)+
                    other => Self::Other(other.into()),
                }
            }

            /// Returns the word of systemctl.
            #[must_use]
            pub fn word(&self) -> &str {
                match self {
                    $(Self::$variant => $word,)+
                    Self::Other(other) => other,
                }
            }
        }
    };
}

words!(LoadState, "loaded" => Loaded, "not-found" => NotFound, "masked" => Masked, "bad-setting" => BadSetting, "error" => Error);
words!(ActiveState, "active" => Active, "reloading" => Reloading, "inactive" => Inactive, "failed" => Failed,
    "activating" => Activating, "deactivating" => Deactivating);
words!(UnitFileState, "enabled" => Enabled, "enabled-runtime" => EnabledRuntime, "linked" => Linked,
    "linked-runtime" => LinkedRuntime, "alias" => Alias, "masked" => Masked, "masked-runtime" => MaskedRuntime,
    "static" => Static, "indirect" => Indirect, "disabled" => Disabled, "generated" => Generated,
    "transient" => Transient, "bad" => Bad, "" => None);

impl UnitFileState {
    /// Tells whether the next boot starts the unit by itself.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        *self == Self::Enabled
    }

    /// Returns why `systemctl enable` would not make the unit enabled although it may return 0; `None` where it works.
    #[must_use]
    pub fn why_not_enableable(&self) -> Option<&'static str> {
        Some(match self {
            Self::Static => "it has no [Install] section: other units pull it in, and `enable` changes nothing",
            Self::Indirect => "its [Install] section only names other units (`Also=`): enable those",
            Self::Generated => "a generator makes it at each boot: change what it is made from, for example /etc/fstab",
            Self::Transient => "it exists only at run time",
            Self::Alias => "the name is an alias: use the real name of the unit",
            Self::Masked | Self::MaskedRuntime => "it is masked: unmask it first",
            Self::Bad => "systemd cannot use its file",
            Self::None => "there is no unit file of this name",
            _ => return None,
        })
    }
}

/// What `systemctl show` says of one unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitState {
    /// The real name: for an alias another one than was asked for.
    pub id: String,
    /// All names.
    pub names: Vec<String>,
    /// Whether the unit is there.
    pub load: LoadState,
    /// Whether it runs.
    pub active: ActiveState,
    /// The detail of that, for example `exited`, `running`, `mounted`.
    pub sub: String,
    /// Whether the next boot starts it.
    pub file: UnitFileState,
    /// What the distribution would have: `enabled`, `disabled` or empty.
    pub preset: String,
    /// The file of the unit; empty if it has none.
    pub fragment: String,
    /// What the file was generated from, for example /etc/fstab; empty if nothing.
    pub source: String,
    /// The drop-ins of the unit.
    pub drop_ins: Vec<String>,
    /// Whether a file of the unit changed since systemd read it.
    pub need_daemon_reload: bool,
    /// Whether `systemctl reload` is possible.
    pub can_reload: bool,
    /// The sockets, timers and paths that start it.
    pub triggered_by: Vec<String>,
    /// How the last run ended; `success` if well or never.
    pub result: String,
}

impl UnitState {
    /// Tells whether systemd has the unit, masked or not.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.load != LoadState::NotFound
    }

    /// Tells whether the unit runs or counts as up.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self.active, ActiveState::Active | ActiveState::Reloading | ActiveState::Activating)
    }
}

/// Why an output or a name of systemd could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SystemdError {
    /// The output of `systemctl show` lacks a property.
    #[error("`systemctl show` did not tell the {0} of the unit")]
    Missing(&'static str),
    /// A line of the output is no property.
    #[error("`systemctl show` said `{0}`, which is no property")]
    NoProperty(String),
    /// The output holds another number of units than was asked for.
    #[error("`systemctl show` told of {told} units instead of {asked}")]
    Count {
        /// How many units were told of.
        told: usize,
        /// How many units were asked for.
        asked: usize,
    },
    /// A text that names no unit.
    #[error("`{0}` is no name of a unit: {1}")]
    Name(String, &'static str),
}

/// Returns the command that shows units; it returns 0 even for those that do not exist.
#[must_use]
pub fn show(units: &[&str]) -> Vec<String> {
    let fixed = ["systemctl", "show", "--no-pager", "-p", PROPERTIES, "--"];
    fixed.iter().chain(units).map(|word| (*word).to_owned()).collect()
}

/// Reads the output of [`show`] for as many units as were asked for, in their order.
///
/// # Errors
/// If the output is not what systemctl writes.
pub fn parse_show_all(output: &str, asked: usize) -> Result<Vec<UnitState>, SystemdError> {
    let blocks: Vec<&str> = output.split("\n\n").filter(|block| !block.trim().is_empty()).collect();
    if blocks.len() != asked {
        return Err(SystemdError::Count { told: blocks.len(), asked });
    }
    blocks.into_iter().map(parse_show).collect()
}

/// Reads what [`show`] wrote for one unit. The order of the properties is not that of the request, and a property that
/// an old systemd does not know is missing: only what decides is required.
///
/// # Errors
/// If the output is not what systemctl writes.
pub fn parse_show(block: &str) -> Result<UnitState, SystemdError> {
    let mut properties = Vec::new();
    for line in block.lines().filter(|line| !line.trim().is_empty()) {
        let pair = line.split_once('=').filter(|(name, _)| name.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        properties.push(pair.ok_or_else(|| SystemdError::NoProperty(line.chars().take(120).collect()))?);
    }
    let optional = |name: &str| properties.iter().find(|(other, _)| *other == name).map(|(_, value)| *value);
    let required = |name: &'static str| optional(name).ok_or(SystemdError::Missing(name));
    let words = |name: &str| optional(name).unwrap_or_default().split_whitespace().map(Into::into).collect();
    let text = |name: &str| optional(name).unwrap_or_default().to_owned();
    Ok(UnitState {
        id: required("Id")?.into(),
        names: words("Names"),
        load: LoadState::from_word(required("LoadState")?),
        active: ActiveState::from_word(required("ActiveState")?),
        sub: text("SubState"),
        file: UnitFileState::from_word(required("UnitFileState")?),
        preset: text("UnitFilePreset"),
        fragment: text("FragmentPath"),
        source: text("SourcePath"),
        drop_ins: words("DropInPaths"),
        need_daemon_reload: optional("NeedDaemonReload") == Some("yes"),
        can_reload: optional("CanReload") == Some("yes"),
        triggered_by: words("TriggeredBy"),
        result: text("Result"),
    })
}

/// Returns `systemctl enable`; with a root the links are made below it.
#[must_use]
pub fn enable(root: Option<&AbsPath>, unit: &str) -> Vec<String> {
    file_command(root, "enable", unit)
}

/// Returns `systemctl disable`; with a root the links are removed below it.
#[must_use]
pub fn disable(root: Option<&AbsPath>, unit: &str) -> Vec<String> {
    file_command(root, "disable", unit)
}

/// Returns `systemctl mask`; it fails where a real file has the name in /etc/systemd/system.
#[must_use]
pub fn mask(root: Option<&AbsPath>, unit: &str) -> Vec<String> {
    file_command(root, "mask", unit)
}

/// Returns `systemctl unmask`.
#[must_use]
pub fn unmask(root: Option<&AbsPath>, unit: &str) -> Vec<String> {
    file_command(root, "unmask", unit)
}

/// Returns `systemctl is-enabled`, whose output is a word of [`UnitFileState`] even where it does not return 0; it works
/// without a running systemd.
#[must_use]
pub fn is_enabled(root: Option<&AbsPath>, unit: &str) -> Vec<String> {
    file_command(root, "is-enabled", unit)
}

/// Returns `systemctl start`, which fails with 5 for a unit that is not there.
#[must_use]
pub fn start(unit: &str) -> Vec<String> {
    run_command("start", unit)
}

/// Returns `systemctl stop`.
#[must_use]
pub fn stop(unit: &str) -> Vec<String> {
    run_command("stop", unit)
}

/// Returns `systemctl restart`, which also starts what does not run.
#[must_use]
pub fn restart(unit: &str) -> Vec<String> {
    run_command("restart", unit)
}

/// Returns `systemctl try-restart`, which leaves alone what does not run.
#[must_use]
pub fn try_restart(unit: &str) -> Vec<String> {
    run_command("try-restart", unit)
}

/// Returns `systemctl reload`, which fails for a unit that cannot reload.
#[must_use]
pub fn reload(unit: &str) -> Vec<String> {
    run_command("reload", unit)
}

/// Returns `systemctl try-reload-or-restart`, which leaves alone what does not run.
#[must_use]
pub fn try_reload_or_restart(unit: &str) -> Vec<String> {
    run_command("try-reload-or-restart", unit)
}

/// Returns `systemctl daemon-reload`: systemd reads all units and runs all generators again.
#[must_use]
pub fn daemon_reload() -> Vec<String> {
    ["systemctl", "--no-ask-password", "daemon-reload"].map(Into::into).into()
}

fn file_command(root: Option<&AbsPath>, verb: &str, unit: &str) -> Vec<String> {
    let mut argv: Vec<String> = ["systemctl", "--no-ask-password"].map(Into::into).into();
    argv.extend(root.map(|root| format!("--root={root}")));
    argv.extend([verb, "--", unit].map(Into::into));
    argv
}

fn run_command(verb: &str, unit: &str) -> Vec<String> {
    ["systemctl", "--no-ask-password", verb, "--", unit].map(Into::into).into()
}

/// The kinds of units (systemd.unit(5)).
const SUFFIXES: [&str; 11] = [
    ".service",
    ".socket",
    ".target",
    ".mount",
    ".automount",
    ".timer",
    ".path",
    ".slice",
    ".scope",
    ".swap",
    ".device",
];

/// Returns the full name of a unit: `libvirtd` is `libvirtd.service`, `/mnt/images` is `mnt-images.mount`, `/dev/sda` is
/// `dev-sda.device` (systemctl(1)). Patterns and what systemctl would escape on its own are refused.
///
/// # Errors
/// If the text names no unit.
pub fn unit_name(text: &str) -> Result<String, SystemdError> {
    let wrong = |why| Err(SystemdError::Name(text.into(), why));
    if text.starts_with('/') {
        let Ok(path) = AbsPath::new(text) else { return wrong("the path is not normal") };
        let suffix = if path.as_str().starts_with("/dev/") { ".device" } else { ".mount" };
        return checked(text, escape_path(&path) + suffix);
    }
    if text.is_empty() {
        return wrong("it is empty");
    }
    if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte)) {
        return wrong("it holds a character other than letters, digits and `:-_.\\@`");
    }
    let full = SUFFIXES.iter().any(|suffix| text.len() > suffix.len() && text.ends_with(suffix));
    checked(text, if full { text.into() } else { format!("{text}.service") })
}

fn checked(text: &str, name: String) -> Result<String, SystemdError> {
    let wrong = |why| Err(SystemdError::Name(text.into(), why));
    if name.len() > 255 {
        return wrong("it is longer than 255 bytes");
    }
    let prefix = name.rsplit_once('.').map_or(name.as_str(), |(prefix, _)| prefix);
    if prefix.starts_with('@') {
        return wrong("nothing stands before `@`");
    }
    if prefix.ends_with('@') {
        return wrong("it is a template: name an instance, `NAME@INSTANCE`");
    }
    Ok(name)
}

/// Returns the name that a path has in unit names, without a suffix, as `systemd-escape --path` does.
#[must_use]
pub fn escape_path(path: &AbsPath) -> String {
    let inner = path.as_str().trim_matches('/');
    if inner.is_empty() {
        return "-".into();
    }
    let mut name = String::with_capacity(inner.len());
    for (at, byte) in inner.bytes().enumerate() {
        match byte {
            b'/' => name.push('-'),
            b'.' if at == 0 => name.push_str("\\x2e"),
            byte if byte.is_ascii_alphanumeric() || b":_.".contains(&byte) => name.push(char::from(byte)),
            byte => name.push_str(&format!("\\x{byte:02x}")),
        }
    }
    name
}

/// Returns the name of the mount unit of a mount point.
#[must_use]
pub fn mount_unit(path: &AbsPath) -> String {
    escape_path(path) + ".mount"
}

/// Returns the path of an escaped name, as `systemd-escape --unescape --path` does; `None` if it is no escaped path.
#[must_use]
pub fn unescape_path(name: &str) -> Option<AbsPath> {
    if name == "-" {
        return AbsPath::new("/").ok();
    }
    let (mut bytes, mut rest) = (vec![b'/'], name.as_bytes());
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'-' => bytes.push(b'/'),
            b'\\' => {
                let (code, after) = rest.split_at_checked(3)?;
                let digits = std::str::from_utf8(code.strip_prefix(b"x")?).ok()?;
                bytes.push(u8::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))?);
                rest = after;
            }
            byte => bytes.push(*byte),
        }
    }
    let path = AbsPath::new(String::from_utf8(bytes).ok()?).ok()?;
    (escape_path(&path) == name).then_some(path)
}

/// The [Install] section of a unit and its drop-ins (systemd.unit(5)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Install {
    /// The units that want it.
    pub wanted_by: Vec<String>,
    /// The units that require it.
    pub required_by: Vec<String>,
    /// Its other names.
    pub alias: Vec<String>,
    /// The units that are enabled with it.
    pub also: Vec<String>,
    /// The instance that a template gets.
    pub default_instance: Option<String>,
}

impl Install {
    /// Returns the state that the unit has while nothing enables it.
    #[must_use]
    pub fn when_disabled(&self) -> UnitFileState {
        match (self.wanted_by.is_empty() && self.required_by.is_empty() && self.alias.is_empty(), self.also.is_empty())
        {
            (false, _) => UnitFileState::Disabled,
            (true, false) => UnitFileState::Indirect,
            (true, true) => UnitFileState::Static,
        }
    }

    /// Tells whether `systemctl enable` has nothing to do.
    #[must_use]
    pub fn is_static(&self) -> bool {
        self.when_disabled() == UnitFileState::Static
    }
}

/// Reads the [Install] section of the file of a unit.
#[must_use]
pub fn parse_install(content: &[u8]) -> Install {
    let mut install = Install::default();
    let mut in_section = false;
    for line in logical_lines(&String::from_utf8_lossy(content)) {
        if line.starts_with('[') {
            in_section = line == "[Install]";
            continue;
        }
        let Some((name, value)) = line.split_once('=').filter(|_| in_section) else { continue };
        let list = match name.trim() {
            "WantedBy" => &mut install.wanted_by,
            "RequiredBy" | "UpheldBy" => &mut install.required_by,
            "Alias" => &mut install.alias,
            "Also" => &mut install.also,
            "DefaultInstance" => {
                install.default_instance = Some(value.trim().to_owned()).filter(|value| !value.is_empty());
                continue;
            }
            _ => continue,
        };
        // Unlike elsewhere in units an empty value does not reset these lists, it adds nothing.
        list.extend(value.split_whitespace().map(|word| word.trim_matches(['"', '\'']).to_owned()));
    }
    install
}

/// Joins lines that end in `\`, where comments in between are left out, and drops comments and blank lines.
fn logical_lines(text: &str) -> Vec<String> {
    let (mut lines, mut open) = (Vec::new(), None::<String>);
    for line in text.lines() {
        let line = line.trim();
        if line.starts_with(['#', ';']) || (line.is_empty() && open.is_none()) {
            continue;
        }
        let (part, continues) = line.strip_suffix('\\').map_or((line, false), |part| (part, true));
        let joined = open.take().map_or_else(|| part.to_owned(), |before| format!("{before} {part}"));
        if continues { open = Some(joined) } else { lines.push(joined) }
    }
    lines.extend(open);
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // Written by hand after systemctl(1) and what systemd 252 shows: an alias, a missing unit, a masked one.
    const SHOWN: &str = "\
Result=success
Id=ssh.service
Names=ssh.service sshd.service
TriggeredBy=ssh.socket
LoadState=loaded
ActiveState=active
SubState=running
FragmentPath=/lib/systemd/system/ssh.service
SourcePath=
DropInPaths=/etc/systemd/system/ssh.service.d/a.conf /etc/systemd/system/ssh.service.d/b.conf
UnitFileState=enabled
UnitFilePreset=enabled
NeedDaemonReload=yes
CanReload=yes

Result=success
Id=ksmtuned.service
Names=ksmtuned.service
LoadState=not-found
ActiveState=inactive
SubState=dead
FragmentPath=
UnitFileState=
UnitFilePreset=
NeedDaemonReload=no
CanReload=no

Id=hwclock.service
Names=hwclock.service
LoadState=masked
ActiveState=inactive
SubState=dead
FragmentPath=/lib/systemd/system/hwclock.service
UnitFileState=masked
NeedDaemonReload=no
";

    #[test]
    fn shown_units() {
        let units = parse_show_all(SHOWN, 3).unwrap();
        assert_eq!(units[0].id, "ssh.service");
        assert_eq!(units[0].names, ["ssh.service", "sshd.service"]);
        assert_eq!(units[0].triggered_by, ["ssh.socket"]);
        assert_eq!(units[0].drop_ins.len(), 2);
        assert!(
            units[0].need_daemon_reload && units[0].can_reload && units[0].is_running() && units[0].file.is_enabled()
        );
        assert!(!units[1].exists() && !units[1].is_running());
        assert_eq!(units[1].file, UnitFileState::None);
        assert_eq!((&units[2].load, &units[2].file), (&LoadState::Masked, &UnitFileState::Masked));
        assert_eq!(parse_show_all(SHOWN, 2), Err(SystemdError::Count { told: 3, asked: 2 }));
        assert_eq!(parse_show("Id=x\n"), Err(SystemdError::Missing("LoadState")));
        let said = "System has not been booted with systemd as init system (PID 1). Can't operate.";
        assert_eq!(parse_show(said), Err(SystemdError::NoProperty(said.into())));
    }

    #[test]
    fn words_of_states() {
        for word in ["enabled", "enabled-runtime", "static", "indirect", "disabled", "masked-runtime", "", "new-word"] {
            assert_eq!(UnitFileState::from_word(word).word(), word);
        }
        assert!(UnitFileState::Static.why_not_enableable().is_some());
        assert!(UnitFileState::Disabled.why_not_enableable().is_none());
        assert_eq!(serde_json::to_string(&UnitFileState::EnabledRuntime).unwrap(), "\"enabled-runtime\"");
    }

    #[test]
    fn commands() {
        let root = AbsPath::known("/tmp/x");
        assert_eq!(show(&["a.service"]).last().unwrap(), "a.service");
        assert_eq!(enable(None, "a.service").join(" "), "systemctl --no-ask-password enable -- a.service");
        assert_eq!(
            mask(Some(&root), "a.service").join(" "),
            "systemctl --no-ask-password --root=/tmp/x mask -- a.service"
        );
        assert_eq!(start("a.service").join(" "), "systemctl --no-ask-password start -- a.service");
        assert_eq!(daemon_reload().join(" "), "systemctl --no-ask-password daemon-reload");
    }

    #[test]
    fn names() {
        for (text, name) in [
            ("libvirtd", Some("libvirtd.service")),
            ("ssh.socket", Some("ssh.socket")),
            ("foo.bar", Some("foo.bar.service")),
            ("getty@tty1", Some("getty@tty1.service")),
            ("/mnt/images", Some("mnt-images.mount")),
            ("/dev/sda", Some("dev-sda.device")),
            ("mnt-my\\x20images.mount", Some("mnt-my\\x20images.mount")),
            ("", None),
            ("a b", None),
            ("*.service", None),
            ("getty@", None),
            ("@x.service", None),
            ("-a;b", None),
            ("/mnt/../x", None),
        ] {
            assert_eq!(unit_name(text).ok().as_deref(), name, "{text}");
        }
        assert!(unit_name(&"a".repeat(250)).is_err());
        for (path, name) in [
            ("/", "-"),
            ("/mnt/my images", "mnt-my\\x20images"),
            ("/dev//sda/", "dev-sda"),
            ("/.hidden/x-y", "\\x2ehidden-x\\x2dy"),
            ("/mnt/é", "mnt-\\xc3\\xa9"),
        ] {
            let path = AbsPath::known(path);
            assert_eq!(escape_path(&path), name);
            assert_eq!(unescape_path(name), Some(path));
        }
        assert_eq!(unescape_path("a--b"), None);
        assert_eq!(unescape_path("a\\x2"), None);
        assert_eq!(mount_unit(&AbsPath::known("/dev/hugepages1G")), "dev-hugepages1G.mount");
    }

    #[test]
    fn install_sections() {
        for (text, expected) in [
            ("[Unit]\nWantedBy=x\n[Service]\nExecStart=/x\n", UnitFileState::Static),
            ("[Install]\nWantedBy=multi-user.target\n", UnitFileState::Disabled),
            ("[Install]\n# c\nWantedBy=a.target \\\n# c\n  b.target\nAlias=c.service\n", UnitFileState::Disabled),
            ("[Install]\nAlso=x.socket\n", UnitFileState::Indirect),
            ("[Install]\nWantedBy=\n", UnitFileState::Static),
            ("\u{feff}", UnitFileState::Static),
        ] {
            assert_eq!(parse_install(text.as_bytes()).when_disabled(), expected, "{text}");
        }
        let install = parse_install(b"[Install]\nWantedBy=a.target \\\n; c\n  b.target\nDefaultInstance=tty1\n");
        assert_eq!(install.wanted_by, ["a.target", "b.target"]);
        assert_eq!(install.default_instance.as_deref(), Some("tty1"));
    }

    proptest! {
        #[test]
        fn no_input_panics(content: Vec<u8>, text: String) {
            let _ = parse_install(&content);
            let _ = parse_show_all(&text, 1);
            let _ = unit_name(&text);
            let _ = unescape_path(&text);
        }

        #[test]
        fn paths_round_trip(path in "(/[^/\\x00-\\x1f\\x7f-\\x9f]{1,6}){0,4}/") {
            if let Ok(path) = AbsPath::new(path) {
                prop_assert_eq!(unescape_path(&escape_path(&path)), Some(path));
            }
        }
    }
}
