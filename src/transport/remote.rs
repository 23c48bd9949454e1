//! [`RemoteHost`]: a [`Host`] at the other end of a channel.

use std::{
    io::{self, Read, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::wire::{self, FrameError, Hello, PROTOCOL, Request, Response};
use crate::host::{
    Host, HostError,
    bytes::Digest,
    read::{self, Answer},
    run::{Applied, RolledBack, Run, RunId, StepEvent},
    undo::{TakeBack, TookBack, UndoPlan},
};

/// How often a run that goes on is looked at for a wish to stop.
const GLANCE: Duration = Duration::from_millis(100);

/// How long an executor may take for what it is asked unless something else is said.
pub const PATIENCE: Duration = Duration::from_secs(600);

/// The most bytes of one batch of answers that are kept.
const MAX_ANSWERS: usize = 512 << 20;

/// Both directions to an executor.
pub trait Channel: Read + Write + Send {
    /// Waits until something can be read or the end is reached.
    ///
    /// # Errors
    /// Fails if the channel does.
    fn is_ready(&mut self, within: Duration) -> io::Result<bool>;

    /// Sets within what time from now all reading and writing must be done, or it fails with [`io::ErrorKind::TimedOut`].
    fn limit(&mut self, within: Duration);

    /// Closes the channel and returns what the other end and the carrier said about it, in one line; may be empty.
    fn last_words(&mut self) -> String;
}

/// An executor at the other end of a channel.
pub struct RemoteHost<C: Channel> {
    channel: C,
    hello: Hello,
    pushed: Option<String>,
    /// How long it may take for what it is asked, beyond what programs that it runs may take.
    patience: Duration,
    stop: Option<Arc<AtomicBool>>,
    asked_to_stop: bool,
    is_lost: bool,
}

impl<C: Channel> RemoteHost<C> {
    /// Hears the executor's first frame; its hello line is already taken from the channel.
    ///
    /// # Errors
    /// Fails if it is another build than `build`, or no executor at all.
    pub fn meet(mut channel: C, build: Option<&Digest>) -> Result<Self, HostError> {
        let first = wire::receive(&mut channel);
        let hello = match first {
            Ok(Some(Response::Hello(hello))) => hello,
            Ok(Some(Response::Failed(failure))) => return Err(failure.into()),
            Ok(Some(_)) => return Err(HostError::Protocol("it did not say hello".into())),
            Ok(None) => return Err(lost(&mut channel, &FrameError::Truncated)),
            Err(error) => return Err(lost(&mut channel, &error)),
        };
        if hello.protocol != PROTOCOL || hello.version != env!("CARGO_PKG_VERSION") {
            return Err(HostError::Refused(format!(
                "the executor is vprov {} (protocol {}), this is vprov {} (protocol {PROTOCOL})",
                hello.version,
                hello.protocol,
                env!("CARGO_PKG_VERSION")
            )));
        }
        if build.is_some() && hello.build.as_ref() != build {
            return Err(HostError::Refused("the executor is another build than this vprov".into()));
        }
        Ok(Self { channel, hello, pushed: None, patience: PATIENCE, stop: None, asked_to_stop: false, is_lost: false })
    }

    /// Remembers into which directory the executor was pushed for this connection.
    #[must_use]
    pub fn with_pushed(mut self, directory: Option<String>) -> Self {
        self.pushed = directory;
        self
    }

    /// Says how long the executor may take for what it is asked, beyond what programs that it runs may take.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Gives the flag that, once set, ends a run after its current operation.
    #[must_use]
    pub fn with_stop(mut self, stop: Option<Arc<AtomicBool>>) -> Self {
        self.stop = stop;
        self
    }

    /// Returns who the executor is.
    #[must_use]
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Returns the directory into which the executor was pushed for this connection: the only write of planning.
    #[must_use]
    pub fn pushed(&self) -> Option<&str> {
        self.pushed.as_deref()
    }

    /// Asks, and gives the answer some time.
    fn ask(&mut self, request: &Request) -> Result<(), HostError> {
        if self.is_lost {
            return Err(HostError::Unreachable("the connection was lost before".into()));
        }
        match request {
            // Neither changes how long the answer to another request may take.
            Request::Stop | Request::Bye => {}
            _ => self.channel.limit(self.patience.saturating_add(programs(request))),
        }
        match wire::send(&mut self.channel, request) {
            Err(FrameError::Oversize(bytes)) => Err(HostError::Refused(format!(
                "what is asked of the host has {bytes} bytes; at most {} are possible",
                wire::MAX_FRAME
            ))),
            sent => sent.map_err(|error| self.lose(&error)),
        }
    }

    fn hear(&mut self) -> Result<Response, HostError> {
        match wire::receive(&mut self.channel) {
            Ok(Some(Response::Failed(failure))) => Err(failure.into()),
            Ok(Some(response)) => Ok(response),
            Ok(None) => Err(self.lose(&FrameError::Truncated)),
            Err(error) => Err(self.lose(&error)),
        }
    }

    /// Hears the next frame of a run, and tells the executor once if it is to stop.
    fn hear_or_stop(&mut self) -> Result<Response, HostError> {
        while !self.channel.is_ready(GLANCE).map_err(|error| self.lose(&FrameError::Channel(error)))? {
            if !self.asked_to_stop && self.stop.as_ref().is_some_and(|stop| stop.load(Ordering::SeqCst)) {
                self.asked_to_stop = true;
                self.ask(&Request::Stop)?;
            }
        }
        self.hear()
    }

    /// After an error the place in the stream is unknown, so nothing more is asked.
    fn lose(&mut self, error: &FrameError) -> HostError {
        self.is_lost = true;
        lost(&mut self.channel, error)
    }

    fn unexpected(&mut self, response: &Response) -> HostError {
        self.is_lost = true;
        let name = match response {
            Response::Hello(_) => "a second hello",
            Response::Answer(_) => "an answer to no question",
            Response::Event(_) => "news of no run that it was given",
            Response::Applied(_) => "the end of no run that it was given",
            Response::UndoPlan(_) => "a preview of no rollback",
            Response::TookBack(_) => "the end of no rollback",
            Response::Confirmed => "a confirmation of nothing",
            Response::Failed(_) => "a failure",
        };
        HostError::Protocol(name.into())
    }
}

impl<C: Channel> Host for RemoteHost<C> {
    fn read(&mut self, reads: &[read::Read]) -> Result<Vec<Answer>, HostError> {
        if reads.is_empty() {
            return Ok(Vec::new());
        }
        self.ask(&Request::Read(reads.to_vec()))?;
        let (mut answers, mut size) = (Vec::with_capacity(reads.len()), 0);
        while answers.len() < reads.len() {
            match self.hear()? {
                Response::Answer(answer) => {
                    size += weight(&answer);
                    if size > MAX_ANSWERS {
                        self.is_lost = true;
                        return Err(HostError::Protocol(format!("it answered more than {MAX_ANSWERS} bytes")));
                    }
                    answers.push(answer);
                }
                other => return Err(self.unexpected(&other)),
            }
        }
        Ok(answers)
    }

    fn apply(&mut self, run: &Run, on: &mut dyn FnMut(&StepEvent)) -> Result<Applied, HostError> {
        self.ask(&Request::Apply(run.clone()))?;
        let steps: usize = run.works.iter().map(|work| work.steps.len()).sum();
        // Each step begins and is done at most once, and each work ends once.
        let mut left = run.works.len() + 2 * steps;
        loop {
            match self.hear_or_stop()? {
                Response::Event(event) if left > 0 && is_of(run, &event) => {
                    left -= 1;
                    on(&event);
                }
                Response::Applied(applied) if is_whole(run, &applied) => return Ok(applied),
                other => return Err(self.unexpected(&other)),
            }
        }
    }

    fn rollback(&mut self, run: &RunId) -> Result<RolledBack, HostError> {
        self.undo(&TakeBack::of(run)).and_then(TookBack::done)
    }

    fn undo_plan(&mut self, run: &RunId) -> Result<UndoPlan, HostError> {
        self.ask(&Request::UndoPlan(run.clone()))?;
        match self.hear()? {
            Response::UndoPlan(plan) => Ok(plan),
            other => Err(self.unexpected(&other)),
        }
    }

    fn undo(&mut self, what: &TakeBack) -> Result<TookBack, HostError> {
        self.ask(&Request::Undo(what.clone()))?;
        match self.hear_or_stop()? {
            Response::TookBack(done) => Ok(done),
            other => Err(self.unexpected(&other)),
        }
    }

    fn confirm(&mut self, run: &RunId) -> Result<(), HostError> {
        self.ask(&Request::Confirm(run.clone()))?;
        match self.hear()? {
            Response::Confirmed => Ok(()),
            other => Err(self.unexpected(&other)),
        }
    }
}

impl<C: Channel> Drop for RemoteHost<C> {
    fn drop(&mut self) {
        if !self.is_lost {
            let _ = wire::send(&mut self.channel, &Request::Bye);
        }
    }
}

/// Returns how long the programs may take that a request makes the executor run.
fn programs(request: &Request) -> Duration {
    let seconds = match request {
        Request::Apply(run) => run.works.iter().flat_map(|work| &work.steps).map(|step| step.op.timeout_s()).sum(),
        // They are in the journal, which only the host knows; no program has more than a day.
        Request::Undo(_) => 86_400,
        _ => 0,
    };
    Duration::from_secs(seconds)
}

/// Tells whether an event is about a work and step that the run has.
fn is_of(run: &Run, event: &StepEvent) -> bool {
    match event {
        StepEvent::Started { work, step } | StepEvent::Done { work, step, .. } => {
            run.works.get(*work).is_some_and(|work| *step < work.steps.len())
        }
        StepEvent::Ended { work, .. } => *work < run.works.len(),
    }
}

/// Tells whether a result has an outcome for each work.
fn is_whole(run: &Run, applied: &Applied) -> bool {
    !matches!(applied, Applied::Ran { outcomes } if outcomes.len() != run.works.len())
}

/// Says how a channel was lost, with what the other end said last.
fn lost(channel: &mut impl Channel, error: &FrameError) -> HostError {
    let words = channel.last_words();
    let behind = if words.is_empty() { String::new() } else { format!(": {words}") };
    match error {
        FrameError::Channel(error) if error.kind() == io::ErrorKind::TimedOut => {
            HostError::Unreachable(format!("the executor took too long to answer (see --host-timeout){behind}"))
        }
        FrameError::Channel(_) | FrameError::Truncated => {
            HostError::Unreachable(format!("the executor ended before it answered{behind}"))
        }
        FrameError::Oversize(_) | FrameError::Content(_) => HostError::Protocol(format!("{error}{behind}")),
    }
}

/// About how much memory an answer holds.
fn weight(answer: &Answer) -> usize {
    64 + match answer {
        Answer::File { content, .. } => content.as_ref().map_or(0, |content| content.0.len()),
        Answer::Directory { names, .. } => names.iter().flatten().map(|name| name.len() + 24).sum(),
        Answer::Paths(paths) => paths.iter().map(|(path, answer)| path.as_str().len() + weight(answer)).sum(),
        Answer::Output(output) => output.stdout.0.len() + output.stderr.0.len(),
        Answer::Failed(words) | Answer::Link { target: words, .. } => words.len(),
        Answer::Absent | Answer::Denied | Answer::Special { .. } => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::net::UnixStream,
        sync::mpsc,
        thread::{self, JoinHandle},
    };

    use super::*;
    use crate::{
        address::Address,
        host::{
            op::{Op, Step},
            path::AbsPath,
            run::{Outcome, Work},
        },
        transport::serve,
    };

    impl Channel for UnixStream {
        fn limit(&mut self, _: Duration) {}

        fn is_ready(&mut self, within: Duration) -> io::Result<bool> {
            self.set_read_timeout(Some(within))?;
            let mut none = [rustix::event::PollFd::new(self, rustix::event::PollFlags::IN)];
            let limit = rustix::event::Timespec { tv_sec: 0, tv_nsec: within.subsec_nanos().into() };
            let ready = rustix::event::poll(&mut none, Some(&limit))? > 0;
            self.set_read_timeout(None)?;
            Ok(ready)
        }

        fn last_words(&mut self) -> String {
            "its last words".into()
        }
    }

    /// A host whose run waits between its works until the test lets it go on.
    struct Scripted {
        cancel: Arc<AtomicBool>,
        go_on: mpsc::Receiver<()>,
    }

    impl Host for Scripted {
        fn read(&mut self, reads: &[read::Read]) -> Result<Vec<Answer>, HostError> {
            match reads.len() {
                13 => Err(HostError::Refused("thirteen".into())),
                2 => Ok(vec![Answer::Failed("x".repeat(wire::MAX_FRAME)), Answer::Absent]),
                n => Ok((0..n).map(|n| Answer::Failed(n.to_string())).collect()),
            }
        }

        fn apply(&mut self, run: &Run, on: &mut dyn FnMut(&StepEvent)) -> Result<Applied, HostError> {
            let mut outcomes = vec![Outcome::NotStarted; run.works.len()];
            for (work, outcome) in outcomes.iter_mut().enumerate() {
                if self.cancel.load(Ordering::SeqCst) {
                    break;
                }
                on(&StepEvent::Started { work, step: 0 });
                let _ = self.go_on.recv();
                *outcome = Outcome::Done { changed: true };
            }
            Ok(Applied::Ran { outcomes })
        }

        fn rollback(&mut self, run: &RunId) -> Result<RolledBack, HostError> {
            Err(HostError::Refused(format!("there is no run `{run}`")))
        }
    }

    struct Far {
        cancel: Arc<AtomicBool>,
        go_on: mpsc::Sender<()>,
        thread: JoinHandle<Result<(), FrameError>>,
    }

    fn hello() -> Hello {
        Hello {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").into(),
            build: Some(Digest::of(b"vprov")),
            uid: 0,
            arch: "x86_64".into(),
            observe: false,
        }
    }

    fn pair() -> (UnixStream, Far) {
        let (near, far) = UnixStream::pair().unwrap();
        let cancel = Arc::new(AtomicBool::new(false));
        let (go_on, gate) = mpsc::channel();
        let mut host = Scripted { cancel: cancel.clone(), go_on: gate };
        let flag = cancel.clone();
        let thread = thread::spawn(move || {
            let mut to = far.try_clone().unwrap();
            wire::send(&mut to, &Response::Hello(hello()))?;
            serve::serve(&mut host, far, to, &flag)
        });
        (near, Far { cancel, go_on, thread })
    }

    fn run(works: usize) -> Run {
        let step = || Step::new(Op::Remove { path: AbsPath::known("/a") });
        let work =
            || Work { address: Address::new("file", "/a"), needs: vec![], steps: vec![step()], sensitive: false };
        Run {
            id: RunId::new(0, 0),
            by: "test".into(),
            confirm_within: None,
            works: (0..works).map(|_| work()).collect(),
        }
    }

    fn questions(n: usize) -> Vec<read::Read> {
        vec![read::Read::glob("/*"); n]
    }

    #[test]
    fn questions_are_answered_in_order() {
        let (near, far) = pair();
        let mut host = RemoteHost::meet(near, Some(&Digest::of(b"vprov"))).unwrap();
        assert_eq!(host.read(&[]).unwrap(), vec![]);
        let answers = host.read(&questions(300)).unwrap();
        assert!(answers.iter().enumerate().all(|(n, answer)| *answer == Answer::Failed(n.to_string())));
        assert_eq!(host.read(&questions(13)), Err(HostError::Refused("thirteen".into())));
        assert_eq!(host.read(&questions(1)).unwrap().len(), 1, "a failed request leaves the channel usable");
        assert!(matches!(host.rollback(&RunId::new(0, 0)), Err(HostError::Refused(words)) if words.contains("no run")));
        drop(host);
        far.thread.join().unwrap().unwrap();
    }

    #[test]
    fn an_answer_that_is_too_large_fails_alone() {
        let (near, _far) = pair();
        let mut host = RemoteHost::meet(near, None).unwrap();
        let answers = host.read(&questions(2)).unwrap();
        assert!(matches!(&answers[0], Answer::Failed(words) if words.contains("at most")));
        assert_eq!(answers[1], Answer::Absent);
    }

    #[test]
    fn a_run_tells_what_it_does() {
        let (near, far) = pair();
        let mut host = RemoteHost::meet(near, None).unwrap();
        let mut events = vec![];
        let applied = host.apply(&run(3), &mut |event| {
            events.push(event.clone());
            far.go_on.send(()).unwrap();
        });
        assert_eq!(applied.unwrap(), Applied::Ran { outcomes: vec![Outcome::Done { changed: true }; 3] });
        assert_eq!(events.len(), 3);
    }

    #[test]
    fn a_wish_to_stop_ends_the_run_after_its_operation() {
        let (near, far) = pair();
        let stop = Arc::new(AtomicBool::new(false));
        let mut host = RemoteHost::meet(near, None).unwrap().with_stop(Some(stop.clone()));
        let cancel = far.cancel.clone();
        let applied = host.apply(&run(2), &mut |_| {
            stop.store(true, Ordering::SeqCst);
            let (cancel, go_on) = (cancel.clone(), far.go_on.clone());
            thread::spawn(move || {
                while !cancel.load(Ordering::SeqCst) {
                    thread::sleep(Duration::from_millis(5));
                }
                go_on.send(()).unwrap();
            });
        });
        let outcomes = vec![Outcome::Done { changed: true }, Outcome::NotStarted];
        assert_eq!(applied.unwrap(), Applied::Ran { outcomes });
    }

    #[test]
    fn a_lost_controller_ends_the_run_after_its_operation() {
        let (mut near, far) = pair();
        let _: Option<Response> = wire::receive(&mut near).unwrap();
        wire::send(&mut near, &Request::Apply(run(2))).unwrap();
        let _: Option<Response> = wire::receive(&mut near).unwrap();
        drop(near);
        while !far.cancel.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(5));
        }
        far.go_on.send(()).unwrap();
        assert!(far.thread.join().unwrap().unwrap_err().is_lost());
    }

    #[test]
    fn a_wrong_executor_is_refused() {
        fn check(say: impl FnOnce(&mut UnixStream), part: &str) {
            let (near, mut far) = UnixStream::pair().unwrap();
            say(&mut far);
            drop(far);
            let error = RemoteHost::meet(near, Some(&Digest::of(b"vprov"))).map(|_| ()).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
        let say = |hello: Hello| move |far: &mut UnixStream| wire::send(far, &Response::Hello(hello)).unwrap();
        check(|_| {}, "ended before it answered: its last words");
        check(|far| far.write_all(b"Welcome to kvm01, please behave\n").unwrap(), "makes no sense");
        check(|far| wire::send_encoded(far, b"{}").unwrap(), "makes no sense");
        check(|far| wire::send(far, &Response::Answer(Answer::Absent)).unwrap(), "did not say hello");
        check(
            |far| wire::send(far, &Response::Failed(HostError::Refused("no root".into()).into())).unwrap(),
            "no root",
        );
        check(say(Hello { protocol: 99, ..hello() }), "protocol 99");
        check(say(Hello { build: None, ..hello() }), "another build");
    }

    #[test]
    fn an_executor_that_answers_nonsense_is_not_asked_again() {
        let (near, mut far) = UnixStream::pair().unwrap();
        wire::send(&mut far, &Response::Hello(hello())).unwrap();
        wire::send(&mut far, &Response::Applied(Applied::Ran { outcomes: vec![] })).unwrap();
        let mut host = RemoteHost::meet(near, None).unwrap();
        assert!(matches!(host.read(&questions(1)), Err(HostError::Protocol(_))));
        assert!(matches!(host.read(&questions(1)), Err(HostError::Unreachable(_))));
    }
}
