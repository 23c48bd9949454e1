//! What controller and executor say to each other: frames of a 4-byte big-endian length and JSON.
//!
//! Before the first frame the executor prints one line, [`hello_line`]. It holds a number that the controller made up for
//! this connection, so whatever a login shell prints is told apart from the executor. Both ends are the same build, so
//! there is no compatibility to keep here; [`PROTOCOL`] only guards against an `executor: PATH` of another age.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::host::{
    HostError,
    bytes::Digest,
    read::{self, Answer},
    run::{Applied, Run, RunId, StepEvent},
    undo::{TakeBack, TookBack, UndoPlan},
};

/// The number of this language.
pub const PROTOCOL: u32 = 1;

/// The most bytes that the JSON of one frame may have: 64 MiB.
pub const MAX_FRAME: usize = 64 << 20;

/// The line that the executor prints before its first frame.
#[must_use]
pub fn hello_line(nonce: &str) -> String {
    format!("{} HELLO\n", marker(nonce))
}

/// What each line begins with that the bootstrap or the executor prints for the controller.
#[must_use]
pub fn marker(nonce: &str) -> String {
    format!("VPROV-{nonce}")
}

/// The executor's first frame: who it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// [`PROTOCOL`] of the executor.
    pub protocol: u32,
    /// The version of its package.
    pub version: String,
    /// The digest of its binary, if it was started by that name.
    pub build: Option<Digest>,
    /// The effective user that it runs as.
    pub uid: u32,
    /// The architecture that it was built for, as Rust names it (`x86_64`).
    pub arch: String,
    /// Whether it refuses to change anything.
    pub observe: bool,
}

/// What the controller asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Questions; as many [`Response::Answer`]s follow, in their order.
    Read(Vec<read::Read>),
    /// A run; [`Response::Event`]s and one [`Response::Applied`] follow.
    Apply(Run),
    /// What taking a run back would do; one [`Response::UndoPlan`] follows.
    UndoPlan(RunId),
    /// Taking a run back; one [`Response::TookBack`] follows.
    Undo(TakeBack),
    /// A run that the host takes back otherwise stays; one [`Response::Confirmed`] follows.
    Confirm(RunId),
    /// While a run goes on: the operation that acts is finished, then the run ends. Nothing follows.
    Stop,
    /// The end.
    Bye,
}

/// What the executor answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Response {
    /// The first frame.
    Hello(Hello),
    /// The answer to the next question.
    Answer(Answer),
    /// A run goes on.
    Event(StepEvent),
    /// A run ended.
    Applied(Applied),
    /// What taking a run back would do.
    UndoPlan(UndoPlan),
    /// What came of taking a run back.
    TookBack(TookBack),
    /// The run stays.
    Confirmed,
    /// The request failed as a whole.
    Failed(Failure),
}

/// A [`HostError`] in a frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    kind: FailureKind,
    words: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FailureKind {
    Unreachable,
    Refused,
    Protocol,
}

impl From<HostError> for Failure {
    fn from(error: HostError) -> Self {
        let (kind, words) = match error {
            HostError::Unreachable(words) => (FailureKind::Unreachable, words),
            HostError::Refused(words) => (FailureKind::Refused, words),
            HostError::Protocol(words) => (FailureKind::Protocol, words),
        };
        Self { kind, words }
    }
}

impl From<Failure> for HostError {
    fn from(Failure { kind, words }: Failure) -> Self {
        match kind {
            FailureKind::Unreachable => Self::Unreachable(words),
            FailureKind::Refused => Self::Refused(words),
            FailureKind::Protocol => Self::Protocol(words),
        }
    }
}

/// Why a frame could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The channel broke.
    #[error("the channel broke")]
    Channel(#[source] io::Error),
    /// The channel ended within a frame.
    #[error("the channel ended within a frame")]
    Truncated,
    /// The frame is larger than [`MAX_FRAME`].
    #[error("a frame of {0} bytes; at most {MAX_FRAME} are possible")]
    Oversize(u64),
    /// The frame is no JSON of the expected type.
    #[error("a frame that is none of this language")]
    Content(#[source] serde_json::Error),
}

impl FrameError {
    /// Tells whether the other end is gone, as opposed to talking nonsense.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Channel(_) | Self::Truncated)
    }
}

/// Writes one frame and flushes.
///
/// # Errors
/// [`FrameError::Oversize`] leaves the channel untouched, [`FrameError::Channel`] does not.
pub fn send<T: Serialize>(to: &mut impl Write, message: &T) -> Result<(), FrameError> {
    let body = encode(message)?;
    send_encoded(to, &body)?;
    to.flush().map_err(FrameError::Channel)
}

/// Turns a message into the JSON of a frame.
///
/// # Errors
/// Fails if it is too large for one.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let body = serde_json::to_vec(message).map_err(FrameError::Content)?;
    if body.len() > MAX_FRAME {
        return Err(FrameError::Oversize(body.len() as u64));
    }
    Ok(body)
}

/// Writes what [`encode`] made as one frame, without a flush.
///
/// # Errors
/// Fails if the channel does.
pub fn send_encoded(to: &mut impl Write, body: &[u8]) -> Result<(), FrameError> {
    let length = u32::try_from(body.len()).map_err(|_| FrameError::Oversize(body.len() as u64))?;
    to.write_all(&length.to_be_bytes()).and_then(|()| to.write_all(body)).map_err(FrameError::Channel)
}

/// Reads one frame; `None` where the channel ended between two.
///
/// Memory grows with what really arrives, never with what a frame only announces.
///
/// # Errors
/// Fails on a lost channel and on anything that is no frame of a `T`.
pub fn receive<T: DeserializeOwned>(from: &mut impl Read) -> Result<Option<T>, FrameError> {
    let mut header = [0; 4];
    let mut have = 0;
    while have < header.len() {
        match from.read(&mut header[have..]) {
            Ok(0) if have == 0 => return Ok(None),
            Ok(0) => return Err(FrameError::Truncated),
            Ok(n) => have += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(FrameError::Channel(error)),
        }
    }
    let length = u64::from(u32::from_be_bytes(header));
    if length > MAX_FRAME as u64 {
        return Err(FrameError::Oversize(length));
    }
    let mut body = Vec::new();
    from.take(length).read_to_end(&mut body).map_err(FrameError::Channel)?;
    if (body.len() as u64) < length {
        return Err(FrameError::Truncated);
    }
    serde_json::from_slice(&body).map(Some).map_err(FrameError::Content)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        address::Address,
        host::{
            bytes::Bytes,
            matcher::{Expectation, Matcher},
            op::{Op, Owner, Step},
            path::AbsPath,
            read::{Meta, Output, Read as Question, Want},
            run::{Moved, Outcome, Work},
        },
    };

    fn bytes() -> impl Strategy<Value = Bytes> {
        prop_oneof![".*".prop_map(Bytes::from), prop::collection::vec(any::<u8>(), 0..64).prop_map(Bytes)]
    }

    fn path() -> impl Strategy<Value = AbsPath> {
        "(/[a-z0-9 ä]{1,8}){1,3}".prop_map(|text| AbsPath::new(text).unwrap())
    }

    fn question() -> impl Strategy<Value = Question> {
        let want = prop_oneof![Just(Want::Meta), Just(Want::Digest), Just(Want::Content)];
        prop_oneof![
            (path(), any::<bool>(), want).prop_map(|(path, follow, want)| Question::Path { path, follow, want }),
            ".*".prop_map(Question::glob),
        ]
    }

    fn meta() -> impl Strategy<Value = Meta> {
        (0_u32..0o10000, any::<u32>(), any::<u32>(), any::<i64>()).prop_map(|(mode, uid, gid, mtime)| Meta {
            mode,
            uid,
            gid,
            mtime,
        })
    }

    fn answer() -> impl Strategy<Value = Answer> {
        let leaf = prop_oneof![
            Just(Answer::Absent),
            Just(Answer::Denied),
            ".*".prop_map(Answer::Failed),
            (meta(), prop::option::of(bytes())).prop_map(|(meta, content)| Answer::File {
                meta,
                digest: content.as_ref().map(Bytes::digest),
                content
            }),
            (meta(), ".*").prop_map(|(meta, target)| Answer::Link { meta, target }),
            (any::<i32>(), bytes(), bytes()).prop_map(|(status, stdout, stderr)| Answer::Output(Output {
                status,
                stdout,
                stderr
            })),
        ];
        prop_oneof![
            3 => leaf.clone(),
            1 => prop::collection::vec((path(), leaf), 0..4).prop_map(Answer::Paths),
        ]
    }

    fn expectation() -> impl Strategy<Value = Expectation> {
        let matcher = prop_oneof![
            Just(Matcher::Absent),
            bytes().prop_map(Matcher::Bytes),
            any::<i128>().prop_map(Matcher::Integer),
            any::<u64>().prop_map(|number| Matcher::AtLeast(number.into())),
            any::<u64>().prop_map(Matcher::Size),
        ];
        (question(), matcher).prop_map(|(read, matcher)| Expectation { read, matcher })
    }

    fn request() -> impl Strategy<Value = Request> {
        let id = || (any::<u32>(), any::<u16>()).prop_map(|(seconds, chance)| RunId::new(seconds.into(), chance));
        let step = (path(), bytes(), expectation(), expectation()).prop_map(|(path, content, guard, after)| {
            Step::new(Op::Write { path, content, owner: Owner::root(0o644) }).guard(guard).after(after)
        });
        let work = (".*", prop::collection::vec(step, 0..3)).prop_map(|(name, steps)| Work {
            address: Address::new("file", name),
            needs: vec![],
            steps,
            sensitive: false,
        });
        prop_oneof![
            prop::collection::vec(question(), 0..8).prop_map(Request::Read),
            (id(), ".*", prop::collection::vec(work, 0..3)).prop_map(|(id, by, works)| Request::Apply(Run {
                id,
                by,
                confirm_within: None,
                works
            })),
            id().prop_map(Request::UndoPlan),
            id().prop_map(Request::Confirm),
            id().prop_map(|run| Request::Undo(TakeBack::of(&run))),
            Just(Request::Stop),
            Just(Request::Bye),
        ]
    }

    fn response() -> impl Strategy<Value = Response> {
        let moved =
            (".*", expectation(), ".*", prop::option::of(any::<i64>())).prop_map(|(name, expected, found, mtime)| {
                Moved { address: Address::new("sysctl", name), expected, found, mtime, sensitive: false }
            });
        let outcome =
            prop_oneof![
                any::<bool>().prop_map(|changed| Outcome::Done { changed }),
                (".*", ".*").prop_map(|(wanted, found)| Outcome::Short { wanted, found }),
                (any::<usize>(), ".*", ".*", any::<bool>())
                    .prop_map(|(step, action, error, by_system)| Outcome::Failed { step, action, error, by_system }),
                Just(Outcome::NotStarted),
            ];
        prop_oneof![
            answer().prop_map(Response::Answer),
            (any::<usize>(), outcome.clone())
                .prop_map(|(work, outcome)| Response::Event(StepEvent::Ended { work, outcome })),
            prop::collection::vec(outcome, 0..4).prop_map(|outcomes| Response::Applied(Applied::Ran { outcomes })),
            prop::collection::vec(moved, 0..3).prop_map(|moved| Response::Applied(Applied::Stale { moved })),
            ".*".prop_map(|words| Response::Failed(HostError::Refused(words).into())),
            (any::<u32>(), any::<bool>()).prop_map(|(uid, observe)| Response::Hello(Hello {
                protocol: PROTOCOL,
                version: "0".into(),
                build: Some(Digest::of(b"")),
                uid,
                arch: "x86_64".into(),
                observe,
            })),
        ]
    }

    fn round_trip<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(messages: &[T]) {
        let mut channel = Vec::new();
        for message in messages {
            send(&mut channel, message).unwrap();
        }
        let mut from = channel.as_slice();
        for message in messages {
            assert_eq!(receive::<T>(&mut from).unwrap().as_ref(), Some(message));
        }
        assert!(receive::<T>(&mut from).unwrap().is_none());
    }

    proptest! {
        #[test]
        fn requests_survive_the_channel(messages in prop::collection::vec(request(), 0..4)) {
            round_trip(&messages);
        }

        #[test]
        fn responses_survive_the_channel(messages in prop::collection::vec(response(), 0..4)) {
            round_trip(&messages);
        }

        #[test]
        fn a_cut_frame_is_truncated(message in response(), cut in any::<prop::sample::Index>()) {
            let mut channel = Vec::new();
            send(&mut channel, &message).unwrap();
            let cut = cut.index(channel.len());
            match receive::<Response>(&mut &channel[..cut]) {
                Ok(None) => prop_assert_eq!(cut, 0),
                Err(error) => prop_assert!(error.is_lost()),
                Ok(Some(_)) => prop_assert!(false, "a cut frame was taken"),
            }
        }

        #[test]
        fn garbage_is_an_error(garbage in prop::collection::vec(any::<u8>(), 1..256)) {
            let mut from = garbage.as_slice();
            while let Ok(Some(_)) = receive::<Response>(&mut from) {}
        }

        #[test]
        fn a_frame_of_garbage_is_an_error(garbage in prop::collection::vec(any::<u8>(), 0..256)) {
            let mut channel = Vec::new();
            send_encoded(&mut channel, &garbage).unwrap();
            prop_assert!(matches!(receive::<Response>(&mut channel.as_slice()), Err(FrameError::Content(_))));
        }
    }

    #[test]
    fn an_oversize_frame_is_refused_by_its_length() {
        for length in [MAX_FRAME as u32 + 1, u32::MAX] {
            let mut channel = length.to_be_bytes().to_vec();
            channel.extend([b' '; 64]);
            assert!(matches!(receive::<Response>(&mut channel.as_slice()), Err(FrameError::Oversize(_))));
        }
        let large = Response::Answer(Answer::Failed("x".repeat(MAX_FRAME)));
        let mut channel = Vec::new();
        assert!(matches!(send(&mut channel, &large), Err(FrameError::Oversize(_))));
        assert!(channel.is_empty());
    }

    #[test]
    fn a_frame_that_only_announces_its_size_takes_no_memory() {
        let channel = (MAX_FRAME as u32).to_be_bytes();
        assert!(matches!(receive::<Response>(&mut channel.as_slice()), Err(FrameError::Truncated)));
    }

    #[test]
    fn a_deep_frame_is_refused() {
        let mut channel = Vec::new();
        send_encoded(&mut channel, &[b'['; 100_000]).unwrap();
        assert!(matches!(receive::<Response>(&mut channel.as_slice()), Err(FrameError::Content(_))));
    }
}
