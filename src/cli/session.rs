//! What all commands share that contact hosts: the documents, the selected hosts, the way to reach them, and progress.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rayon::prelude::*;

use crate::{
    catalog::{self, Catalog},
    cli::{
        Terminal, Wrong,
        args::{Documents, Reach, Running, Wishes},
        progress::Progress,
        prompt,
    },
    config::{
        LoadOptions, Project, data, embedded,
        inventory::{Connection, HostSpec, OnFailure},
        rollout::{Canary, Rollout},
    },
    diag::{Diagnostic, Diagnostics, SourceMap},
    event::{Event, Happened},
    facts::{self, Facts},
    fleet,
    graph::Graph,
    host::{Host as _, HostError, path::AbsPath, run::RunId},
    plan::{
        self, HostPlan, HostResult,
        file::PlanFile,
        host::{Circumstances, PlanError, plan},
    },
    resource::Registry,
    transport::{Connector, HostKeys, Mode, Options, Target, pipes::Pipes, privilege::Password, remote::RemoteHost},
};

/// The documents of one invocation, with the hosts that were selected and the way to reach them.
pub struct Session {
    project: Project,
    /// The selected hosts in the order of the inventory.
    pub hosts: Hosts,
    connector: Connector,
    parallel: NonZeroUsize,
    root: Option<PathBuf>,
    /// The plan that is carried out, where it was saved; else it is made now.
    saved: Option<PlanFile>,
    /// Set by the first interruption: nothing new begins.
    pub stop: Arc<AtomicBool>,
}

/// Documents with the selected hosts and warnings, or everything that is wrong with them.
type Loaded = Result<(Project, Hosts, Diagnostics), Diagnostics>;
type Load = fn(&Documents, &Arc<SourceMap>) -> Loaded;

/// Loads documents and selects hosts; warnings are returned beside.
///
/// # Errors
/// Everything that is wrong with the documents or the selection.
pub fn load(documents: &Documents, sources: &Arc<SourceMap>) -> Loaded {
    let options = LoadOptions {
        set: documents.set.clone(),
        facts: Some(facts::tree().to_value()),
        ..library_options(&documents.modules)
    };
    if let Some(directory) = documents.modules.iter().find(|directory| !directory.is_dir()) {
        return Err(Diagnostic::error(format!("--modules: `{}` is no directory", directory.display())).into());
    }
    let (project, warnings) = Project::load(&documents.hosts, &options, &Registry, sources)?;
    let hosts = select(&project, documents)?;
    check_without_facts(&project, &hosts)?;
    Ok((project, hosts, warnings))
}

/// Loads the inventory alone and selects hosts.
fn load_hosts(documents: &Documents, sources: &Arc<SourceMap>) -> Loaded {
    let options = LoadOptions { set: documents.set.clone(), ..LoadOptions::default() };
    let (project, warnings) = Project::load_inventory(&documents.hosts, &options, sources)?;
    let hosts = select(&project, documents)?;
    Ok((project, hosts, warnings))
}

fn select(project: &Project, documents: &Documents) -> Result<Hosts, Diagnostics> {
    match documents.limit.as_slice() {
        [] => Ok(project.hosts().to_vec()),
        limit => project.select("--limit", &limit.join(",")),
    }
}

/// Finds what is wrong whatever the facts of the hosts are, so that no host is contacted for it: values that a kind does
/// not take, contradictions, two sources of one thing, cycles.
fn check_without_facts(project: &Project, hosts: &[Arc<HostSpec>]) -> Result<(), Diagnostics> {
    // Hosts with the same profile declare the same.
    let profiles: BTreeMap<_, _> = hosts.iter().rev().map(|host| (Arc::as_ptr(&host.profile), host)).collect();
    let profiles: Vec<&Arc<HostSpec>> = profiles.into_values().collect();
    let found: Vec<Diagnostics> = profiles
        .par_iter()
        .filter_map(|host| compile_without_facts(project, host).err().map(|found| found.for_host(&host.name)))
        .collect();
    let mut all: Diagnostics = found.into_iter().flatten().collect();
    all.sort();
    all.or(()).map(|_| ())
}

fn compile_without_facts(project: &Project, host: &HostSpec) -> Result<(), Diagnostics> {
    let (declared, has_open_override) = project.expand_without_facts(host)?;
    let mut catalog = match catalog::build(declared) {
        Ok(catalog) => catalog,
        Err(_) if has_open_override => return Ok(()),
        Err(diagnostics) => return Err(diagnostics),
    };
    // An address may be that of an entry that looks at facts.
    let names: BTreeSet<String> = catalog.entries.iter().flat_map(|entry| entry.names.iter().cloned()).collect();
    for entry in &mut catalog.entries {
        entry.requires.retain(|(name, _)| names.contains(name));
        entry.notify.retain(|(name, _)| names.contains(name));
    }
    Graph::build(&catalog).map(|_| ())
}

/// Returns where modules and playbooks are looked up.
pub fn library_options(modules: &[PathBuf]) -> LoadOptions {
    LoadOptions { modules_dirs: modules.to_vec(), embedded: embedded::FILES, ..LoadOptions::default() }
}

/// The selected hosts in the order of the inventory.
pub type Hosts = Vec<Arc<HostSpec>>;

impl Session {
    /// Loads documents and makes a session; nothing is contacted.
    ///
    /// # Errors
    /// What is wrong with the documents, already shown, or with the command line.
    pub fn open(
        documents: &Documents,
        reach: &Reach,
        running: Option<&Running>,
        terminal: &Terminal,
    ) -> Result<Self, Wrong> {
        Self::of(load, documents, reach, running, terminal)
    }

    /// The same with the inventory alone: what was done is read and taken back whatever became of the playbooks.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub fn open_hosts(
        documents: &Documents,
        reach: &Reach,
        running: Option<&Running>,
        terminal: &Terminal,
    ) -> Result<Self, Wrong> {
        Self::of(load_hosts, documents, reach, running, terminal)
    }

    fn of(
        load: Load,
        documents: &Documents,
        reach: &Reach,
        running: Option<&Running>,
        terminal: &Terminal,
    ) -> Result<Self, Wrong> {
        let sources = Arc::new(SourceMap::new());
        let (project, hosts, warnings) =
            load(documents, &sources).map_err(|found| terminal.refuse(&found, &sources))?;
        terminal.diagnose(&warnings, &sources);
        Self::new(project, hosts, None, reach, running)
    }

    /// Makes a session of selected hosts; nothing is contacted. With a saved plan its root and declarations are taken.
    ///
    /// # Errors
    /// What is wrong with the command line.
    pub fn new(
        project: Project,
        hosts: Hosts,
        saved: Option<PlanFile>,
        reach: &Reach,
        running: Option<&Running>,
    ) -> Result<Self, Wrong> {
        let root = saved.as_ref().map_or(reach.root.clone(), |saved| saved.about.root.as_ref().map(PathBuf::from));
        if let (Some(root), n) = (&root, hosts.len()) {
            if n != 1 {
                let words =
                    format!("--root stands for exactly one host, and {n} are selected; choose one with --limit");
                return Err(words.into());
            }
            if !root.is_dir() {
                return Err(format!("--root: `{}` is no directory", root.display()).into());
            }
        }
        let password = if reach.ask_become_pass { Some(Arc::new(Password::new(prompt::password()?))) } else { None };
        let stop = Arc::new(AtomicBool::new(false));
        let options = Options {
            host_keys: if reach.accept_new_host_keys { HostKeys::AcceptNew } else { HostKeys::Strict },
            executor_dir: reach.executor_dir.clone(),
            password,
            stop: Some(stop.clone()),
            patience: std::time::Duration::from_secs(reach.host_timeout),
            lock_timeout: running.map_or(0, |running| running.lock_timeout),
            keep_runs: running.map(|running| running.keep_runs),
            ..Options::default()
        };
        let connector = Connector::new(options);
        Ok(Self { project, hosts, connector, parallel: reach.parallel, root, saved, stop })
    }

    /// Returns what is known of the hosts before they are asked.
    #[must_use]
    pub fn circumstances(&self, wishes: Wishes) -> Circumstances {
        let retry_short = self.saved.as_ref().map_or(wishes.retry_short, |saved| saved.about.retry_short);
        Circumstances { offline: self.root.is_some(), retry_short, prune: wishes.prune }
    }

    /// Returns the documents.
    #[must_use]
    pub fn project(&self) -> &Project {
        &self.project
    }

    /// Returns the directory that stands for the one host.
    #[must_use]
    pub fn root(&self) -> Option<&Path> {
        self.root.as_deref()
    }

    /// Does something on each of some hosts in parallel, telling progress.
    pub fn each<T: Sync, R: Send>(
        &self,
        items: &[T],
        verb: &str,
        name: impl Fn(&T) -> &str + Sync,
        work: impl Fn(&T, &mut dyn FnMut(Happened)) -> R + Sync,
    ) -> Vec<R> {
        let progress = Progress::of_reading(verb, items.len());
        let results = fleet::each(items, self.parallel, |item| {
            let host = name(item);
            let mut on = |what| progress.tell(&Event { host: host.into(), what });
            on(Happened::Connecting);
            let result = work(item, &mut on);
            on(Happened::Done { good: true, words: String::new() });
            result
        });
        progress.end();
        results
    }

    /// Plans all selected hosts.
    pub fn plan(&self, wishes: Wishes) -> Vec<HostPlan> {
        self.each(
            &self.hosts,
            "planned",
            |spec| &spec.name,
            |spec, on| HostPlan { host: spec.name.to_string(), result: self.plan_host(spec, wishes, on) },
        )
    }

    fn plan_host(&self, spec: &HostSpec, wishes: Wishes, on: &mut dyn FnMut(Happened)) -> HostResult {
        if self.stop.load(Ordering::Relaxed) {
            return HostResult::Unreachable { error: "interrupted before it was contacted".into() };
        }
        let mut host = match self.connect(spec, Mode::Observe) {
            Ok(host) => host,
            Err(error) => return failed(error),
        };
        on(Happened::Connected);
        let compile = |facts: &Facts| fleet::on_core(|| self.compile(spec, facts));
        match plan(&mut host, &compile, self.circumstances(wishes), on) {
            Ok(mut planned) => {
                planned.uploaded = host.pushed().map(Into::into);
                HostResult::Planned(planned)
            }
            Err(PlanError::Host(error)) => failed(error),
            Err(PlanError::Documents(diagnostics)) => {
                HostResult::Failed { error: diagnostics.render(self.sources(), false).trim_end().into() }
            }
        }
    }

    /// Reads the facts of all selected hosts.
    pub fn facts(&self) -> Vec<(String, Result<Facts, HostError>)> {
        self.each(
            &self.hosts,
            "read",
            |spec| &spec.name,
            |spec, _| {
                let read = self.connect(spec, Mode::Observe).and_then(|mut host| plan::host::facts(&mut host));
                (spec.name.to_string(), read.map(|(facts, _)| facts))
            },
        )
    }

    /// Starts an executor on a host.
    ///
    /// # Errors
    /// As [`Connector::connect`].
    pub fn connect(&self, spec: &HostSpec, mode: Mode) -> Result<RemoteHost<Pipes>, HostError> {
        self.connector.connect(&self.target(spec)?, mode)
    }

    /// Tells whether a host is reached over a connection that a change can cut.
    #[must_use]
    pub fn can_be_cut_off(&self, spec: &HostSpec) -> bool {
        self.root.is_none() && spec.connection() == Connection::Ssh
    }

    /// Confirms a run over a connection that shares nothing with those before; tries again as long as the host waits.
    ///
    /// # Errors
    /// Says why the host was not reached the last time, or what it answered.
    #[expect(clippy::disallowed_methods, reason = "the host waits by the clock too")]
    pub fn confirm(&self, spec: &HostSpec, run: &RunId, within: Duration) -> Result<(), HostError> {
        let began = Instant::now();
        loop {
            let target = self.target(spec)?;
            let done = self.connector.anew().connect(&target, Mode::Apply).and_then(|mut host| host.confirm(run));
            match done {
                Err(HostError::Unreachable(_)) if began.elapsed() < within && !self.stop.load(Ordering::Relaxed) => {
                    std::thread::sleep(Duration::from_secs(1));
                }
                done => return done,
            }
        }
    }

    /// Makes the catalog and graph of a host from its documents and facts.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn compile(&self, spec: &HostSpec, facts: &Facts) -> Result<(Catalog, Graph), Diagnostics> {
        let declared = match &self.saved {
            None => self.project.expand(spec, &facts.to_value())?,
            Some(saved) => saved
                .declared(&spec.name)
                .map_err(|error| error.to_string())
                .and_then(|declared| data::declared(declared, "the saved plan", self.sources()))
                .map_err(Diagnostic::error)?,
        };
        let catalog = catalog::build(declared)?;
        let graph = Graph::build(&catalog)?;
        Ok((catalog, graph))
    }

    /// Tells whether a host is taken back whose run fails.
    #[must_use]
    pub fn rolls_back_on_failure(&self) -> bool {
        self.project.inventory().on_failure == OnFailure::Rollback
    }

    /// Returns how a change goes over the hosts, as the inventory says.
    #[must_use]
    pub fn rollout(&self) -> &Rollout {
        &self.project.inventory().rollout
    }

    /// Returns the names of the hosts that are named as canaries.
    ///
    /// # Errors
    /// Names that are neither hosts nor groups; they are shown.
    pub fn canaries(&self, rules: &Rollout, terminal: &Terminal) -> Result<BTreeSet<Arc<str>>, Wrong> {
        let Some(Canary::Hosts(patterns)) = &rules.canary else { return Ok(BTreeSet::new()) };
        let found = self.project.select("canary", &patterns.join(","));
        let hosts = found.map_err(|found| terminal.refuse(&found, self.sources()))?;
        Ok(hosts.iter().map(|host| Arc::clone(&host.name)).collect())
    }

    /// Returns the files that were read.
    #[must_use]
    pub fn sources(&self) -> &SourceMap {
        self.project.sources()
    }

    fn target(&self, spec: &HostSpec) -> Result<Target, HostError> {
        let ssh = spec.ssh();
        let executor = ssh.executor.as_deref().map(AbsPath::new).transpose();
        Ok(Target {
            name: spec.name.to_string(),
            address: spec.address.as_deref().map(Into::into),
            local: spec.connection() == Connection::Local,
            user: ssh.user.clone(),
            port: ssh.port,
            identity_file: ssh.identity_file.clone().map(Into::into),
            config_file: ssh.config_file.clone().map(Into::into),
            proxy_jump: ssh.proxy_jump.clone(),
            r#become: ssh.r#become,
            executor: executor.map_err(|error| HostError::Refused(format!("ssh.executor: {error}")))?,
            root: self.root.clone(),
        })
    }
}

fn failed(error: HostError) -> HostResult {
    match error {
        HostError::Unreachable(error) => HostResult::Unreachable { error },
        error => HostResult::Failed { error: error.to_string() },
    }
}
