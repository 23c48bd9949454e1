//! Progress of long work: a live view on a terminal; elsewhere, for what changes hosts, a line for each host that ended and
//! now and then one about those that take long. And where the time went.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::File,
    io::{self, IsTerminal as _, Write as _},
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    address::Address,
    event::{Event, Happened},
    report::text::{count, shown},
};

/// How often the live view is drawn anew although nothing happened, so that ages grow and a resized terminal is filled.
const TICK: Duration = Duration::from_millis(500);

/// How often the line log says who takes long.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// How many hosts the live view shows.
const HOSTS: usize = 5;

/// The format of events. Additions keep the number.
const EVENTS_FORMAT: &str = "vprov.events/1";

/// The progress of one phase over all hosts.
pub struct Progress {
    shared: Arc<Shared>,
    ticker: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    state: Mutex<State>,
    ended: Condvar,
    look: Look,
    began: Instant,
}

/// Where progress goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    Live,
    Log,
    Silent,
}

struct State {
    verb: String,
    all: usize,
    done: usize,
    failed: usize,
    /// Oldest first.
    running: VecDeque<Running>,
    /// How long the steps took, by resource and action.
    times: BTreeMap<(Address, String), Times>,
    /// The lines that stand on the terminal.
    drawn: Vec<usize>,
    events: Option<File>,
    is_ended: bool,
}

struct Running {
    host: String,
    since: Duration,
    step: Option<(Address, String, Duration)>,
}

/// How long one step took.
struct Times {
    hosts: u32,
    total: Duration,
    longest: Duration,
    /// Where it took longest.
    host: String,
}

impl Progress {
    /// Begins a phase that only reads, as `planned` for 12 hosts.
    #[must_use]
    pub fn of_reading(verb: &str, all: usize) -> Self {
        let look = if all > 0 && io::stderr().is_terminal() { Look::Live } else { Look::Silent };
        Self::new(verb, all, look, None)
    }

    /// Begins a phase that changes hosts. Each event is a line of JSON in `events`, where that is wished.
    ///
    /// # Errors
    /// Fails if `events` cannot be written.
    #[expect(clippy::disallowed_methods, reason = "events go to a file that the person named")]
    pub fn of_changes(all: usize, events: Option<&Path>) -> io::Result<Self> {
        let look = match all {
            0 => Look::Silent,
            _ if io::stderr().is_terminal() => Look::Live,
            _ => Look::Log,
        };
        let events = events.map(File::create).transpose()?;
        if let Some(mut events) = events.as_ref() {
            writeln!(
                events,
                "{}",
                json!({ "format": EVENTS_FORMAT, "vprov": env!("CARGO_PKG_VERSION"), "hosts": all })
            )?;
        }
        Ok(Self::new("applied", all, look, events))
    }

    #[expect(clippy::disallowed_methods, reason = "progress tells how long things take")]
    fn new(verb: &str, all: usize, look: Look, events: Option<File>) -> Self {
        let state = State::new(verb, all, events);
        let shared = Shared { state: Mutex::new(state), ended: Condvar::new(), look, began: Instant::now() };
        let shared = Arc::new(shared);
        let ticker = (look != Look::Silent).then(|| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.tick())
        });
        Self { shared, ticker: Mutex::new(ticker) }
    }

    /// Takes what happened on a host.
    pub fn tell(&self, event: &Event) {
        let now = self.shared.began.elapsed();
        let mut state = self.shared.lock();
        let ended = state.take(event, now);
        match self.shared.look {
            Look::Live => state.draw(now),
            Look::Log => {
                if let Some(line) = ended {
                    let _ = writeln!(io::stderr(), "{}", shown(&line));
                }
            }
            Look::Silent => {}
        }
    }

    /// Asks somebody something while the view is away.
    pub fn hidden<R>(&self, ask: impl FnOnce() -> R) -> R {
        let mut state = self.shared.lock();
        state.erase();
        let answer = ask();
        drop(state);
        answer
    }

    /// Ends the phase; the view goes away.
    pub fn end(&self) {
        let mut state = self.shared.lock();
        state.is_ended = true;
        state.erase();
        drop(state);
        self.shared.ended.notify_all();
        if let Some(ticker) = self.ticker.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = ticker.join();
        }
    }

    /// Says which steps took longest.
    #[must_use]
    pub fn profile(&self) -> String {
        self.shared.lock().profile(10)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tick(&self) {
        let period = if self.look == Look::Live { TICK } else { HEARTBEAT };
        let mut state = self.lock();
        while !state.is_ended {
            let (guard, timeout) = self.ended.wait_timeout(state, period).unwrap_or_else(PoisonError::into_inner);
            state = guard;
            if state.is_ended || !timeout.timed_out() {
                continue;
            }
            let now = self.began.elapsed();
            if self.look == Look::Live {
                state.draw(now);
            } else if let Some(line) = state.heartbeat(now) {
                let _ = writeln!(io::stderr(), "{}", shown(&line));
            }
        }
    }
}

impl State {
    fn new(verb: &str, all: usize, events: Option<File>) -> Self {
        Self {
            verb: verb.into(),
            all,
            done: 0,
            failed: 0,
            running: VecDeque::new(),
            times: BTreeMap::new(),
            drawn: vec![],
            events,
            is_ended: false,
        }
    }

    /// Takes an event; returns a line for the log where a host ended.
    fn take(&mut self, event: &Event, now: Duration) -> Option<String> {
        if let Some(events) = &mut self.events {
            let mut line = json!(event);
            line["at_ms"] = json!(u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
            // A reader that went away is no reason to stop changing hosts.
            let _ = writeln!(events, "{line}");
        }
        let place = self.running.iter().position(|one| one.host == event.host);
        match &event.what {
            Happened::Connecting => {
                self.running.push_back(Running { host: event.host.clone(), since: now, step: None });
            }
            Happened::Connected | Happened::Facts | Happened::Planned => {}
            Happened::Step { address, action } => {
                self.end_step(place, now);
                if let Some(one) = place.and_then(|place| self.running.get_mut(place)) {
                    one.step = Some((address.clone(), action.clone(), now));
                }
            }
            Happened::Resource { .. } => self.end_step(place, now),
            Happened::Done { good, words } => {
                self.end_step(place, now);
                if let Some(place) = place {
                    self.running.remove(place);
                }
                self.done += 1;
                self.failed += usize::from(!good);
                return Some(format!("{}: {words} ({} of {})", event.host, self.done, self.all));
            }
        }
        None
    }

    fn end_step(&mut self, place: Option<usize>, now: Duration) {
        let Some(one) = place.and_then(|place| self.running.get_mut(place)) else { return };
        let Some((address, action, since)) = one.step.take() else { return };
        let took = now.saturating_sub(since);
        let new = || Times { hosts: 0, total: Duration::ZERO, longest: Duration::ZERO, host: String::new() };
        let times = self.times.entry((address, action)).or_insert_with(new);
        times.hosts += 1;
        times.total += took;
        if took >= times.longest {
            times.longest = took;
            times.host.clone_from(&one.host);
        }
    }

    /// Returns what the live view shows, each line as long as it is.
    fn lines(&self, now: Duration) -> Vec<String> {
        let mut head = format!("{}/{} hosts {}", self.done, self.all, self.verb);
        if self.failed > 0 {
            head += &format!(", {} failed", self.failed);
        }
        if !self.running.is_empty() {
            head += &format!(", {} running", self.running.len());
        }
        head += &format!(", {}", age(now));
        if self.done > 0 && self.done < self.all {
            let left = now.mul_f64((self.all - self.done) as f64 / self.done as f64);
            head += &format!(", about {} left", age(left));
        }
        let mut lines = vec![head];
        for one in self.running.iter().take(HOSTS) {
            let (what, since) = match &one.step {
                Some((address, action, since)) => (format!("{address}: {action}"), *since),
                None => ("…".into(), one.since),
            };
            // The age stands before what may be cut off.
            lines.push(format!("  {:>4}  {}  {what}", age(now.saturating_sub(since)), one.host));
        }
        if self.running.len() > HOSTS {
            lines.push(format!("  and {} more", self.running.len() - HOSTS));
        }
        lines
    }

    fn heartbeat(&self, now: Duration) -> Option<String> {
        let long = |one: &&Running| now.saturating_sub(one.since) >= HEARTBEAT;
        let words = |one: &Running| {
            let step = one.step.as_ref().map(|(address, action, _)| format!(" at {address}: {action}"));
            format!("{} for {}{}", one.host, age(now.saturating_sub(one.since)), step.unwrap_or_default())
        };
        let first = self.running.iter().find(long)?;
        let others = match self.running.iter().filter(long).count() - 1 {
            0 => String::new(),
            n => format!(", and {} more", count(n, "host")),
        };
        Some(format!("still running: {}{others} ({} of {} done)", words(first), self.done, self.all))
    }

    fn profile(&self, most: usize) -> String {
        let mut steps: Vec<(&(Address, String), &Times)> = self.times.iter().collect();
        steps.sort_by_key(|(_, times)| std::cmp::Reverse(times.longest));
        let mut out = String::from("where the time went (longest, mean, hosts):\n");
        for ((address, action), times) in steps.iter().take(most) {
            let (longest, mean) = (times.longest.as_secs_f64(), (times.total / times.hosts.max(1)).as_secs_f64());
            let words = format!("{address}: {action} (longest on {})", times.host);
            out += &format!("  {longest:7.2} s {mean:7.2} s {:>6}  {}\n", times.hosts, shown(&words));
        }
        out
    }

    /// Takes away what stands on the terminal. It may have been made narrower meanwhile, and has broken lines then.
    fn erase(&mut self) {
        if self.drawn.is_empty() {
            return;
        }
        let width = width();
        let rows: usize = self.drawn.drain(..).map(|length| length.div_ceil(width).max(1)).sum();
        let up = if rows > 1 { format!("\x1b[{}A", rows - 1) } else { String::new() };
        let _ = write!(io::stderr(), "\r{up}\x1b[J");
        let _ = io::stderr().flush();
    }

    fn draw(&mut self, now: Duration) {
        if self.is_ended {
            return;
        }
        let width = width();
        self.erase();
        let lines: Vec<String> =
            self.lines(now).iter().map(|line| shown(line).chars().take(width - 1).collect()).collect();
        self.drawn = lines.iter().map(|line| line.chars().count()).collect();
        let _ = write!(io::stderr(), "{}", lines.join("\r\n"));
        let _ = io::stderr().flush();
    }
}

/// Returns how many columns the terminal has now.
fn width() -> usize {
    let columns = rustix::termios::tcgetwinsize(io::stderr()).map_or(0, |size| size.ws_col);
    if columns < 2 { 80 } else { columns.into() }
}

/// Writes how long something takes, short.
fn age(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        seconds => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(state: &mut State, at: u64, host: &str, what: Happened) -> Option<String> {
        state.take(&Event { host: host.into(), what }, Duration::from_secs(at))
    }

    #[test]
    fn the_view_says_who_does_what_for_how_long_and_what_is_left() {
        let mut state = State::new("applied", 12, None);
        for host in ["a", "b", "c", "d", "e", "f", "g"] {
            take(&mut state, 0, host, Happened::Connecting);
        }
        let address = Address::new("file", "/x");
        take(&mut state, 2, "a", Happened::Step { address: address.clone(), action: "write /x".into() });
        let done = |good| Happened::Done { good, words: "done: 1 changed".into() };
        assert_eq!(take(&mut state, 5, "b", done(true)).unwrap(), "b: done: 1 changed (1 of 12)");
        take(&mut state, 10, "c", done(false));
        let lines = state.lines(Duration::from_secs(70));
        assert_eq!(lines[0], "2/12 hosts applied, 1 failed, 5 running, 1m10s, about 5m50s left");
        assert_eq!(lines[1], "  1m08s  a  file[/x]: write /x");
        assert_eq!(lines[2], "  1m10s  d  …");
        assert_eq!(lines.len(), 6);
        let heartbeat = state.heartbeat(Duration::from_secs(70)).unwrap();
        let expected = "still running: a for 1m10s at file[/x]: write /x, and 4 hosts more (2 of 12 done)";
        assert_eq!(heartbeat, expected);
        assert_eq!(state.heartbeat(Duration::from_secs(20)), None);
        take(&mut state, 72, "a", done(true));
        assert!(state.profile(5).contains("  70.00 s   70.00 s      1  file[/x]: write /x (longest on a)"));
        for at in [0, 59, 60, 3599, 3600, 90_000] {
            assert!(age(Duration::from_secs(at)).len() <= 6);
        }
    }
}
