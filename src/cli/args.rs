//! The command line. Its doc comments are the help.

use std::{num::NonZeroUsize, path::PathBuf};

use crate::{
    config::rollout::{Amount, Canary, Order, Rollout as Rules},
    host::run::RunId,
};
use clap::{Args, Parser, Subcommand, ValueEnum};

/// Brings virtualization hosts (KVM, Xen) to a declared state.
///
/// Write what your hosts should be in hosts.yaml, read the exact diff with `plan`, and carry it out with `apply`.
#[derive(Debug, Parser)]
#[command(name = "vprov", version, max_term_width = 80, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// When to use colours.
    #[arg(long, global = true, value_enum, default_value_t = Colour::Auto)]
    pub color: Colour,
}

const EXIT_CODES: &str = "\
Exit codes:
  0    clean
  1    the command line or a file is wrong
  2    changes are pending (plan --detailed-exitcode)
  3    a host failed, or something of it may not be read
  4    a host is unreachable
  5    a host moved since its plan and was not touched
  130  interrupted
Where several hold, the first of 3, 5, 4, 2.";

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Colour {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what would change on every host, and change nothing.
    Plan(Plan),
    /// Show a plan that was saved by `plan -o`.
    Show(Show),
    /// Show what would change, ask, and change exactly that; or carry out a saved plan.
    Apply(Apply),
    /// Show what a run would be taken back to, ask, and take it back.
    Rollback(Rollback),
    /// List the runs that the hosts remember, newest first.
    History(History),
    /// Check the files without contacting any host.
    Validate(Validate),
    /// Show what the hosts are: the `facts` of expressions.
    Facts(Facts),
    /// Show the manual of a kind, module or playbook; without a name, the list of all.
    Explain(Explain),
    /// Write the JSON Schemas of the files, for editors.
    Schema(Schema),
    /// The part that runs on a host; started by vprov itself.
    #[command(hide = true)]
    Executor {
        /// Its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
}

/// Which documents are used.
#[derive(Debug, Args)]
pub struct Documents {
    /// The inventory.
    #[arg(value_name = "HOSTS.YAML", default_value = "hosts.yaml")]
    pub hosts: PathBuf,
    /// Set a variable for all hosts, over everything else; the value is YAML.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// A directory with `modules/` and `playbooks/`, looked up behind those beside HOSTS.YAML.
    #[arg(long, value_name = "DIR")]
    pub modules: Vec<PathBuf>,
    /// Only these hosts: names, ranges, globs, groups; with `!` in front, not these.
    #[arg(long, value_name = "PATTERN", value_delimiter = ',', allow_hyphen_values = true)]
    pub limit: Vec<String>,
}

/// How hosts are reached.
#[derive(Debug, Args)]
pub struct Reach {
    /// How many hosts are worked on at once.
    #[arg(long, value_name = "N", default_value = "32")]
    pub parallel: NonZeroUsize,
    /// Take this directory for the one selected host: an image or a chroot, on this machine.
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Ask for the password of sudo, once, for all hosts.
    #[arg(long)]
    pub ask_become_pass: bool,
    /// How long a host may take for what it is asked, beyond what the programs of the plan may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..))]
    pub host_timeout: u64,
    /// Take the key of a host that is not known yet; one that changed is still refused.
    #[arg(long)]
    pub accept_new_host_keys: bool,
    /// A directory with `vprov-aarch64` and the like, for hosts of another architecture.
    #[arg(long, value_name = "DIR")]
    pub executor_dir: Option<PathBuf>,
}

/// How things are shown.
#[derive(Debug, Args)]
pub struct Output {
    /// Write JSON; its first key names the format.
    #[arg(long)]
    pub json: bool,
    /// Show secrets.
    #[arg(long)]
    pub show_sensitive: bool,
    /// Show every resource and every step.
    #[arg(long, short)]
    pub verbose: bool,
}

/// `vprov plan`.
#[derive(Debug, Args)]
pub struct Plan {
    /// The documents.
    #[command(flatten)]
    pub documents: Documents,
    /// The hosts.
    #[command(flatten)]
    pub reach: Reach,
    /// The output.
    #[command(flatten)]
    pub output: Output,
    /// End with 2 where changes are pending.
    #[arg(long)]
    pub detailed_exitcode: bool,
    /// What is planned beside what is declared.
    #[command(flatten)]
    pub wishes: Wishes,
    /// Save the plan: `show FILE` shows it, `apply FILE` carries out exactly it.
    #[arg(long, short, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Sign the saved plan with this SSH key; the signature is FILE.sig.
    #[arg(long, value_name = "KEY", requires = "out")]
    pub sign: Option<PathBuf>,
}

/// `vprov show`.
#[derive(Debug, Args)]
pub struct Show {
    /// A plan that `plan -o` saved.
    #[arg(value_name = "PLAN")]
    pub plan: PathBuf,
    /// Only these hosts: names, ranges, globs, groups; with `!` in front, not these.
    #[arg(long, value_name = "PATTERN", value_delimiter = ',', allow_hyphen_values = true)]
    pub limit: Vec<String>,
    /// Write Markdown for the comment of a merge request, always shorter than one may be.
    #[arg(long, group = "form", conflicts_with = "json")]
    pub markdown: bool,
    /// Write one page that needs nothing else.
    #[arg(long, group = "form", conflicts_with = "json")]
    pub html: bool,
    /// Write JUnit's XML: failed is what cannot be planned, skipped what would change.
    #[arg(long, group = "form", conflicts_with = "json")]
    pub junit: bool,
    /// The output.
    #[command(flatten)]
    pub output: Output,
}

/// `vprov apply`.
#[derive(Debug, Args)]
pub struct Apply {
    /// The documents. In the place of HOSTS.YAML may stand a plan that `plan -o` saved: exactly that is carried out.
    #[command(flatten)]
    pub documents: Documents,
    /// The hosts.
    #[command(flatten)]
    pub reach: Reach,
    /// The output.
    #[command(flatten)]
    pub output: Output,
    /// How it is done.
    #[command(flatten)]
    pub running: Running,
    /// How the change goes over the hosts.
    #[command(flatten)]
    pub rollout: Rollout,
    /// Do not ask.
    #[arg(long, short = 'y')]
    pub yes: bool,
    /// Carry out a saved plan although some of its changes are decided only on the way.
    #[arg(long)]
    pub allow_deferred: bool,
    /// Refuse a saved plan that none of these signed: a file as ssh-keygen(1) describes it under ALLOWED SIGNERS.
    #[arg(long, value_name = "ALLOWED_SIGNERS")]
    pub require_signature: Option<PathBuf>,
    /// Refuse a saved plan whose hosts do not stand in this inventory any more, or are reached in another way.
    #[arg(long, value_name = "HOSTS.YAML")]
    pub inventory: Option<PathBuf>,
    /// Write what happens on each host while it happens, one JSON object on each line, into this file or pipe.
    #[arg(long, value_name = "FILE")]
    pub events: Option<PathBuf>,
    /// Say at the end which steps took longest.
    #[arg(long)]
    pub profile: bool,
    /// Take a host back at once whose run fails; `on_failure: rollback` in HOSTS.YAML says the same.
    #[arg(long)]
    pub rollback_on_failure: bool,
    /// Let a host reached over SSH take back by itself what may cut it off (sshd, network, filters), unless it is reached anew so
    /// many seconds after the run; 0 leaves that out.
    #[arg(long, value_name = "SECONDS", default_value_t = CONFIRM_WITHIN)]
    pub confirm_timeout: u32,
    /// Allow what is refused otherwise.
    #[arg(long, value_enum, value_name = "WHAT")]
    pub allow: Vec<Allow>,
    /// What is planned beside what is declared.
    #[command(flatten)]
    pub wishes: Wishes,
}

/// How many seconds a host waits to be confirmed that a run may have cut off, if nothing else is said.
pub const CONFIRM_WITHIN: u32 = 60;

/// What is planned beside what is declared.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct Wishes {
    /// Try again what fell short (huge pages) before the next boot.
    #[arg(long)]
    pub retry_short: bool,
    /// Take back what was declared once and is no more, where nobody touched it since.
    #[arg(long)]
    pub prune: bool,
}

/// How a change goes over the hosts; what is not said here is as `rollout:` of HOSTS.YAML says.
#[derive(Debug, Args)]
#[command(next_help_heading = "Rollout")]
pub struct Rollout {
    /// In which order: inventory, sorted, reversed, random or random:SEED.
    #[arg(long, conflicts_with = "resume")]
    pub order: Option<Order>,
    /// Who goes first: a number, a part (5%), or names; if one of them fails, nobody else begins.
    #[arg(long, value_name = "HOSTS", conflicts_with = "resume")]
    pub canary: Option<Canary>,
    /// How many go together: a number or a part (25%). The next batch waits for the whole of the one before.
    #[arg(long, value_name = "N", conflicts_with = "resume")]
    pub batch: Option<Amount>,
    /// How many may fail, a number or a part (10%); with one more, nobody else begins.
    #[arg(long, value_name = "N")]
    pub max_failures: Option<Amount>,
    /// Wait between batches.
    #[arg(long, value_name = "SECONDS")]
    pub pause: Option<u32>,
    /// Ask before each further batch, also with --yes.
    #[arg(long)]
    pub ask: bool,
    /// Go on with a run that did not come to its end (`last` is the newest of HOSTS.YAML): hosts that ended are not asked.
    #[arg(long, value_name = "RUN", conflicts_with_all = ["limit", "root"])]
    pub resume: Option<Resume>,
    /// Give the hosts that failed another turn.
    #[arg(long, requires = "resume")]
    pub retry_failed: bool,
}

impl Rollout {
    /// Returns the rules, given those of the inventory. A rollout that is gone on with keeps its order and batches.
    #[must_use]
    pub fn over(&self, inventory: &Rules, yes: bool, resumed: Option<&Rules>) -> Rules {
        let places = resumed.unwrap_or(inventory);
        Rules {
            order: self.order.unwrap_or(places.order),
            canary: self.canary.clone().or_else(|| places.canary.clone()),
            batch: self.batch.or(places.batch),
            max_failures: self.max_failures.or(inventory.max_failures),
            pause: self.pause.unwrap_or(inventory.pause),
            ask: self.ask || (inventory.ask && !yes),
            health: inventory.health.clone(),
        }
    }
}

/// Which run is gone on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resume {
    /// The newest of the same documents.
    Last,
    /// This one.
    Run(RunId),
}

impl std::str::FromStr for Resume {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "last" { Ok(Self::Last) } else { text.parse().map(Self::Run) }
    }
}

/// How a run on a host is done.
#[derive(Debug, Args)]
pub struct Running {
    /// Wait so long for a host on which another run goes on.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub lock_timeout: u64,
    /// How many runs each host remembers; the newest that ended well always.
    #[arg(long, value_name = "N", default_value_t = crate::host::exec::KEEP_RUNS)]
    pub keep_runs: usize,
}

/// `vprov rollback`.
#[derive(Debug, Args)]
pub struct Rollback {
    /// The documents.
    #[command(flatten)]
    pub documents: Documents,
    /// The hosts.
    #[command(flatten)]
    pub reach: Reach,
    /// The output.
    #[command(flatten)]
    pub output: Output,
    /// How it is done.
    #[command(flatten)]
    pub running: Running,
    /// Take back this run; else on each host the newest that changed something and is not taken back.
    #[arg(long, value_name = "ID")]
    pub run: Option<RunId>,
    /// Do not ask.
    #[arg(long, short = 'y')]
    pub yes: bool,
    /// Also take back what somebody changed since the run.
    #[arg(long)]
    pub force: bool,
}

/// `vprov history`.
#[derive(Debug, Args)]
pub struct History {
    /// The documents.
    #[command(flatten)]
    pub documents: Documents,
    /// The hosts.
    #[command(flatten)]
    pub reach: Reach,
    /// Write JSON; its first key names the format.
    #[arg(long)]
    pub json: bool,
    /// Show every operation.
    #[arg(long, short)]
    pub verbose: bool,
}

/// What `--allow` allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Allow {
    /// What guests feel: an unmounted image store, unmerged pages.
    GuestVisible,
}

/// `vprov validate`.
#[derive(Debug, Args)]
pub struct Validate {
    /// The documents.
    #[command(flatten)]
    pub documents: Documents,
    /// Write JSON; its first key names the format.
    #[arg(long)]
    pub json: bool,
}

/// `vprov facts`.
#[derive(Debug, Args)]
pub struct Facts {
    /// The documents.
    #[command(flatten)]
    pub documents: Documents,
    /// The hosts.
    #[command(flatten)]
    pub reach: Reach,
    /// Write JSON; its first key names the format.
    #[arg(long)]
    pub json: bool,
}

/// `vprov explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// A kind, module or playbook.
    pub name: Option<String>,
    /// A directory with `modules/` and `playbooks/` of your own.
    #[arg(long, value_name = "DIR")]
    pub modules: Vec<PathBuf>,
}

/// `vprov schema`.
#[derive(Debug, Args)]
pub struct Schema {
    /// One of them, on the standard output.
    #[arg(value_enum, required_unless_present = "out")]
    pub file: Option<SchemaFile>,
    /// Write all of them into this directory.
    #[arg(long, value_name = "DIR", conflicts_with = "file")]
    pub out: Option<PathBuf>,
    /// A directory with `modules/` of your own, whose parameters are completed too.
    #[arg(long, value_name = "DIR")]
    pub modules: Vec<PathBuf>,
}

/// The files that have a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SchemaFile {
    /// hosts.yaml.
    Hosts,
    /// A playbook.
    Playbook,
    /// A module.
    Module,
}
