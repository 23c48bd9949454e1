//! Tests: hosts that speak garbage, without end, too slowly or not at all. Each is an error of that host alone.

use std::{
    fs::File,
    io::{self, Write},
    thread,
    time::Duration,
};

use super::{
    pipes::{FarEnds, Keeper, Pipes},
    push::{self, Binaries, Privilege},
    remote::RemoteHost,
    wire::{self, Hello, PROTOCOL, Response},
};
use crate::{
    address::Address,
    host::{
        Host as _, HostError,
        bytes::Digest,
        op::{Op, Step},
        path::AbsPath,
        read::{Answer, Meta, Read},
        run::{Applied, Outcome, Run, RunId, StepEvent, Work},
    },
};

/// A program that is gone when asked.
struct Gone;

impl Keeper for Gone {
    fn end(&mut self) -> Option<i32> {
        Some(0)
    }
}

/// Starts a far end that does what it is told until the near end goes away.
fn far(evil: impl FnOnce(File, File, File) -> io::Result<()> + Send + 'static) -> Pipes {
    Pipes::open::<io::Error, _>(|FarEnds { stdin, stdout, stderr }| {
        thread::spawn(move || drop(evil(stdin.into(), stdout.into(), stderr.into())));
        Ok(Gone)
    })
    .unwrap()
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

fn frame(out: &mut File, message: &Response) -> io::Result<()> {
    wire::send(out, message).map_err(io::Error::other)
}

/// Meets a far end that says hello as it should and then does something else.
fn met(evil: impl FnOnce(File) -> io::Result<()> + Send + 'static) -> RemoteHost<Pipes> {
    let pipes = far(|mut stdin, mut out, _stderr| {
        frame(&mut out, &Response::Hello(hello()))?;
        let spoken = evil(out);
        // It hears until the near end goes away, whatever it had to say.
        io::copy(&mut stdin, &mut io::sink()).and(spoken)
    });
    RemoteHost::meet(pipes, Some(&Digest::of(b"vprov"))).unwrap()
}

fn ask(host: &mut RemoteHost<Pipes>) -> Result<Vec<Answer>, HostError> {
    host.read(&[Read::entry(AbsPath::known("/etc/a"))])
}

fn forever(mut say: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    loop {
        say()?;
    }
}

#[test]
fn a_host_that_speaks_garbage_is_no_executor() {
    let first = |bytes: &'static [u8]| {
        let pipes = far(move |_in, mut out, _err| out.write_all(bytes));
        RemoteHost::meet(pipes, None).err().map(|error| error.to_string()).unwrap_or_default()
    };
    for (bytes, words) in [
        (&b"\xff\xff\xff\xff"[..], "a frame of 4294967295 bytes"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "a frame of 1213486160 bytes"),
        (b"\0\0\0\x04nope", "none of this language"),
        (b"\0\0\0\x02{}", "none of this language"),
        (b"\0\0\x10\0half", "ended before it answered"),
        (b"\0\0", "ended before it answered"),
        (b"", "ended before it answered"),
    ] {
        assert!(first(bytes).contains(words), "{bytes:?}: {}", first(bytes));
    }
    let wrong = |hello: Hello| {
        let pipes = far(move |_in, mut out, _err| frame(&mut out, &Response::Hello(hello)));
        RemoteHost::meet(pipes, Some(&Digest::of(b"vprov"))).err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert!(wrong(Hello { protocol: 99, ..hello() }).contains("protocol 99"));
    assert!(wrong(Hello { version: "\x1b[2J".into(), ..hello() }).contains("the executor is vprov"));
    assert!(wrong(Hello { build: Some(Digest::of(b"other")), ..hello() }).contains("another build"));
    assert!(wrong(Hello { build: None, ..hello() }).contains("another build"));
}

#[test]
fn what_never_ends_or_comes_too_slowly_ends_by_time() {
    let slow = |host: RemoteHost<Pipes>| {
        let mut host = host.with_patience(Duration::from_millis(500));
        let error = ask(&mut host).unwrap_err();
        assert!(matches!(&error, HostError::Unreachable(words) if words.contains("took too long")), "{error}");
        let again = ask(&mut host).unwrap_err().to_string();
        assert!(again.contains("lost before"), "a lost host is asked nothing more: {again}");
    };
    slow(met(|out| {
        thread::sleep(Duration::from_secs(20));
        drop(out);
        Ok(())
    }));
    // A byte now and then of a frame that would be whole one day.
    slow(met(|mut out| {
        out.write_all(&60_000_000_u32.to_be_bytes())?;
        forever(|| {
            thread::sleep(Duration::from_millis(20));
            out.write_all(b" ")
        })
    }));
    // Complaints without end.
    let pipes = far(|_stdin, mut out, mut err| {
        frame(&mut out, &Response::Hello(hello()))?;
        forever(|| err.write_all(&[b'e'; 4096]))
    });
    slow(RemoteHost::meet(pipes, None).unwrap());
}

#[test]
fn frames_with_absurd_content_are_data_or_an_error() {
    let mut deep = met(|mut out| {
        let body = format!("{{\"answer\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        wire::send_encoded(&mut out, body.as_bytes()).map_err(io::Error::other)
    });
    assert!(matches!(ask(&mut deep), Err(HostError::Protocol(_))));
    let path = AbsPath::known("/a");
    let meta = Meta { mode: 0, uid: u32::MAX, gid: 0, mtime: i64::MIN };
    let many = Answer::Paths(vec![(path, Answer::Special { meta }); 50_000]);
    let mut wide = met(move |mut out| frame(&mut out, &Response::Answer(many)));
    assert!(matches!(ask(&mut wide).as_deref(), Ok([Answer::Paths(paths)]) if paths.len() == 50_000));
    // What was not asked for is not waited for, and spoils the next question.
    let mut eager = met(|mut out| forever(|| frame(&mut out, &Response::Hello(hello()))));
    assert!(matches!(ask(&mut eager), Err(HostError::Protocol(words)) if words == "a second hello"));
}

#[test]
fn the_news_of_a_run_are_about_that_run() {
    let step = || Step::new(Op::Remove { path: AbsPath::known("/etc/a") });
    let work =
        || Work { address: Address::new("file", "/etc/a"), needs: vec![], steps: vec![step()], sensitive: false };
    let run = Run { id: RunId::new(0, 0), by: "me".into(), confirm_within: None, works: vec![work(), work()] };
    let apply = |responses: Vec<Response>, again: bool| {
        let mut host = met(move |mut out| {
            loop {
                responses.iter().try_for_each(|response| frame(&mut out, response))?;
                if !again {
                    return Ok(());
                }
            }
        });
        let mut n = 0;
        let result = host.apply(&run, &mut |_| n += 1);
        (result, n)
    };
    let ran = |n: usize| Response::Applied(Applied::Ran { outcomes: vec![Outcome::Done { changed: true }; n] });
    assert!(matches!(apply(vec![ran(2)], false), (Ok(Applied::Ran { .. }), 0)));
    for n in [0, 1, 3] {
        assert!(matches!(apply(vec![ran(n)], false), (Err(HostError::Protocol(_)), 0)), "{n}");
    }
    for (work, step) in [(2, 0), (0, 1), (usize::MAX, usize::MAX)] {
        let event = Response::Event(StepEvent::Started { work, step });
        assert!(matches!(apply(vec![event, ran(2)], false), (Err(HostError::Protocol(_)), 0)), "{work} {step}");
    }
    let event = Response::Event(StepEvent::Started { work: 0, step: 0 });
    let (result, n) = apply(vec![event], true);
    assert!(matches!(result, Err(HostError::Protocol(_))) && n == 6, "{n}");
}

/// Starts an executor on a far end that plays login shell.
fn start(patience: Duration, evil: impl FnOnce(File, File, File) -> io::Result<()> + Send + 'static) -> String {
    let mut pipes = far(evil);
    pipes.limit(patience);
    let binary = Binaries::new("/proc/self/exe".into(), None).own().unwrap();
    match push::hear(&mut pipes, &binary, "0f", "root@evil", Privilege::AsIs, None) {
        Ok(_) => "it started".into(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_start_is_bounded_in_bytes_and_time() {
    let check = |found: String, words: &str| assert!(found.contains(words), "{words}: {found}");
    let (long, short) = (Duration::from_secs(60), Duration::from_millis(500));
    check(start(long, |_, mut out, _| forever(|| out.write_all(&[b'y'; 4096]))), "prints without end");
    check(start(long, |_, mut out, _| forever(|| out.write_all(b"y\n"))), "prints without end");
    check(start(short, |_, _out, mut err| forever(|| err.write_all(&[b'e'; 4096]))), "did not start vprov in time");
    let drip = |_in: File, mut out: File, _err: File| {
        forever(|| {
            thread::sleep(Duration::from_millis(20));
            out.write_all(b" ")
        })
    };
    check(start(short, drip), "did not start vprov in time");
    // Who asks for the upload and does not take it.
    let greedy = |stdin: File, mut out: File, _err: File| {
        out.write_all(b"VPROV-0f UPLOAD /tmp\n")?;
        thread::sleep(Duration::from_secs(20));
        drop(stdin);
        Ok(())
    };
    check(start(short, greedy), "did not start vprov in time");
    check(start(long, |_, mut out, _| out.write_all(b"VPROV-0f OTHER Linux ../../etc\n")), "it started");
    check(start(long, |_, mut out, _| out.write_all(b"VPROV-0f REBOOT now\n")), "the bootstrap said `REBOOT now`");
    check(start(long, |_, mut out, _| out.write_all(b"VPROV-0f FAILED \x1b[2J;\n")), "\x1b[2J");
}
