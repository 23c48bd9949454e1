//! Assignment files in shell syntax (`/etc/default/grub` and its drop-ins): what their variables will be, without running them.
//!
//! Nothing is executed and nothing is guessed. A variable whose value cannot be known from the text is [`NotStatic`], with the
//! line that is the reason; the other variables of the file are not touched by that. Edits keep each byte that they do not
//! mean: CRLF, a missing last newline, tabs and comments in any encoding.

use std::{collections::BTreeMap, ops::Range};

use crate::host::path::AbsPath;

/// Most bytes of a file that is read, and of a value that is computed.
const MAX_FILE: usize = 256 * 1024;
const MAX_VALUE: usize = 16 * 1024;
/// Deepest nesting of `${…}` and `$(…)`.
const MAX_DEPTH: usize = 32;

/// The shell that the distribution's generator runs under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// dash on Debian and Ubuntu: `VAR+=x` is a command that does not exist.
    Posix,
    /// bash elsewhere: `VAR+=x` appends.
    Bash,
}

/// One file of those that are sourced one after the other.
#[derive(Clone, Debug)]
pub struct Source<'a> {
    /// Where it is.
    pub path: &'a AbsPath,
    /// What it holds.
    pub text: &'a [u8],
}

/// Why the value of a variable cannot be known from the text of the files.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}:{line}: `{text}`: {reason}")]
pub struct NotStatic {
    /// The file.
    pub path: AbsPath,
    /// The line in it, from 1.
    pub line: usize,
    /// The line itself, shortened.
    pub text: String,
    /// What cannot be known, as a fragment of a sentence.
    pub reason: String,
}

/// How the value of an assignment is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// Without quotes and special characters, perhaps empty.
    Bare(Range<usize>),
    /// One `'…'`; the range is what stands between the quotes.
    Single(Range<usize>),
    /// One `"…"` with no `$`, backtick, backslash or newline in it.
    Double(Range<usize>),
    /// One `"…"` with variables in it and no command.
    References(Range<usize>),
    /// Anything else.
    Other,
}

/// One assignment that is always executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Index of the file among the sources.
    pub source: usize,
    /// The line in it, from 1.
    pub line: usize,
    /// The variable.
    pub name: String,
    /// `+=`
    pub append: bool,
    /// Where and how the value is written.
    pub form: Form,
    /// The value names the variable itself, so what was there before stays in it.
    pub keeps: bool,
}

impl Assignment {
    /// Tells whether the value is one literal, which can be replaced.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        !self.append && matches!(self.form, Form::Bare(_) | Form::Single(_) | Form::Double(_))
    }

    /// Returns what stands between the quotes in the text of the file, if it is one piece of UTF-8.
    #[must_use]
    pub fn inner<'a>(&self, text: &'a [u8]) -> Option<&'a str> {
        match &self.form {
            Form::Bare(range) | Form::Single(range) | Form::Double(range) | Form::References(range) => {
                std::str::from_utf8(text.get(range.clone())?).ok()
            }
            Form::Other => None,
        }
    }

    /// Returns the text of the file with what stands between the quotes replaced; `None` if `inner` cannot stand there.
    #[must_use]
    pub fn replace(&self, text: &[u8], inner: &str) -> Option<Vec<u8>> {
        let unfit = |special: &str| inner.contains(|c: char| c.is_control() || special.contains(c));
        let (range, quote) = match &self.form {
            Form::Bare(range) if unfit("$`\"\\") => return self.quoted(text, range, inner),
            Form::Bare(range) => (range, "\""),
            Form::Single(range) if !unfit("'") => (range, ""),
            Form::Double(range) if !unfit("$`\"\\") => (range, ""),
            Form::References(range) if !unfit("`\n") => (range, ""),
            _ => return None,
        };
        splice(text, range, &format!("{quote}{inner}{quote}"))
    }

    fn quoted(&self, text: &[u8], range: &Range<usize>, inner: &str) -> Option<Vec<u8>> {
        let fits = !inner.contains(|c: char| c.is_control() || c == '\'');
        fits.then(|| splice(text, range, &format!("'{inner}'"))).flatten()
    }
}

fn splice(text: &[u8], range: &Range<usize>, new: &str) -> Option<Vec<u8>> {
    Some([text.get(..range.start)?, new.as_bytes(), text.get(range.end..)?].concat())
}

/// The variables after all files were sourced.
#[derive(Clone, Debug, Default)]
pub struct Variables {
    known: BTreeMap<String, Result<Vec<u8>, NotStatic>>,
    /// What makes all variables unknown that are not assigned after it.
    floor: Option<NotStatic>,
    assignments: Vec<Assignment>,
}

impl Variables {
    /// Evaluates the files in their order, from no variables at all.
    #[must_use]
    pub fn evaluate(sources: &[Source<'_>], dialect: Dialect) -> Self {
        let mut variables = Self::default();
        for (index, source) in sources.iter().enumerate() {
            File::new(index, source, dialect).run(&mut variables);
        }
        variables
    }

    /// Returns the value of a variable; `None` if no file assigns it.
    ///
    /// # Errors
    /// The line because of which the value cannot be known.
    pub fn get(&self, name: &str) -> Result<Option<&str>, NotStatic> {
        match (self.known.get(name), &self.floor) {
            (Some(Ok(value)), _) => Ok(std::str::from_utf8(value).ok()),
            (Some(Err(error)), _) | (None, Some(error)) => Err(error.clone()),
            (None, None) => Ok(None),
        }
    }

    /// Returns the assignments of a variable that are always executed, in the order of execution.
    pub fn assignments(&self, name: &str) -> impl DoubleEndedIterator<Item = &Assignment> {
        self.assignments.iter().filter(move |assignment| assignment.name == name)
    }
}

/// Why a value cannot be put into a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssignError {
    /// The value or something around it cannot be known.
    #[error(transparent)]
    NotStatic(#[from] NotStatic),
    /// The new value cannot be written in the quotes that are there.
    #[error("{path}:{line}: the value cannot be written in the quotes that stand there")]
    Quotes {
        /// The file.
        path: AbsPath,
        /// The line in it, from 1.
        line: usize,
    },
}

/// Gives a variable a new value: its last assignment is edited in place if that is one literal; a line is appended if there is none.
///
/// # Errors
/// The last assignment is no literal, or the result would not evaluate to `value`.
pub fn assign(path: &AbsPath, text: &[u8], name: &str, value: &str, dialect: Dialect) -> Result<Vec<u8>, AssignError> {
    let sources = [Source { path, text }];
    let variables = Variables::evaluate(&sources, dialect);
    let old = variables.get(name)?;
    let file = File::new(0, &sources[0], dialect);
    let new = match variables.assignments(name).next_back() {
        Some(last) if last.is_literal() => {
            last.replace(text, value).ok_or_else(|| AssignError::Quotes { path: path.clone(), line: last.line })?
        }
        Some(last) => {
            let reason = format!("`{name}` is not assigned as one literal here, so its value cannot be replaced");
            return Err(file.not_static_line(last.line, reason).into());
        }
        None if old.is_none() && !value.contains(|c: char| c.is_control() || "$`\"\\".contains(c)) => {
            let mut new = text.to_vec();
            if !new.is_empty() && !new.ends_with(b"\n") {
                new.push(b'\n');
            }
            new.extend_from_slice(format!("{name}=\"{value}\"\n").as_bytes());
            new
        }
        None => return Err(AssignError::Quotes { path: path.clone(), line: file.lines.len() }),
    };
    // A carriage return behind the value is part of it, and stays.
    let check = Variables::evaluate(&[Source { path, text: &new }], dialect);
    match check.get(name)? {
        Some(now) if now.trim_end_matches('\r') == value => Ok(new),
        _ => Err(AssignError::Quotes { path: path.clone(), line: file.lines.len() }),
    }
}

/// What stands between two commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    /// The begin or end of the file, a newline or `;`.
    Sequence,
    /// `&&`, `||`, `|` or `&`: what stands beside it may not be executed, or in another process.
    Conditional,
    Open,
    Close,
}

/// A construct that is not closed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frame {
    If,
    Loop,
    Case,
    Brace,
    Paren,
    Function,
}

/// A simple command.
#[derive(Debug, Default)]
struct Command {
    words: Vec<Range<usize>>,
    redirected: bool,
}

struct File<'a> {
    index: usize,
    path: &'a AbsPath,
    text: &'a [u8],
    dialect: Dialect,
    /// Where each line begins.
    lines: Vec<usize>,
}

/// Where scanning could not go on.
struct Broken(usize, &'static str);

impl<'a> File<'a> {
    fn new(index: usize, source: &Source<'a>, dialect: Dialect) -> Self {
        let newlines = source.text.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        let lines = std::iter::once(0).chain(newlines.map(|(at, _)| at + 1)).collect();
        Self { index, path: source.path, text: source.text, dialect, lines }
    }

    fn line(&self, at: usize) -> usize {
        self.lines.partition_point(|begin| *begin <= at)
    }

    fn not_static(&self, at: usize, reason: impl Into<String>) -> NotStatic {
        self.not_static_line(self.line(at), reason)
    }

    fn not_static_line(&self, line: usize, reason: impl Into<String>) -> NotStatic {
        let begin = self.lines.get(line - 1).copied().unwrap_or(0);
        let end = self.lines.get(line).copied().unwrap_or(self.text.len());
        // A line may be the whole file.
        let shown = end.min(begin + 1024);
        let text = String::from_utf8_lossy(&self.text[begin..shown]);
        let mut short: String = text.trim().chars().take(160).collect();
        if short.len() < text.trim().len() || shown < end {
            short.push('…');
        }
        NotStatic { path: self.path.clone(), line, text: short, reason: reason.into() }
    }

    fn raw(&self, range: &Range<usize>) -> &'a [u8] {
        &self.text[range.clone()]
    }

    fn run(&self, variables: &mut Variables) {
        let mut state = State { file: self, variables, frames: Vec::new(), function: false, aborted: false };
        if self.text.len() > MAX_FILE {
            state.forget(self.not_static(0, format!("the file is larger than {MAX_FILE} bytes")));
        } else if self.text.contains(&0) {
            state.forget(self.not_static(0, "the file holds a NUL byte"));
        } else if let Err(Broken(at, reason)) = state.commands() {
            state.forget(self.not_static(at.min(self.text.len().saturating_sub(1)), reason));
        }
    }

    fn peek(&self, at: usize) -> u8 {
        self.text.get(at).copied().unwrap_or(0)
    }

    /// Returns the end of the word that begins at `at`.
    fn word(&self, mut at: usize) -> Result<usize, Broken> {
        loop {
            at = match self.peek(at) {
                0 | b' ' | b'\t' | b'\n' | b';' | b'&' | b'|' | b'<' | b'>' | b'(' | b')' => return Ok(at),
                // Its escapes end elsewhere than those of `'`.
                b'$' if self.peek(at + 1) == b'\'' && self.dialect == Dialect::Bash => {
                    return Err(Broken(at, "`$'` is not evaluated"));
                }
                _ => self.piece(at, 0)?,
            };
        }
    }

    /// Returns the end of one character, quotation or expansion.
    fn piece(&self, at: usize, depth: usize) -> Result<usize, Broken> {
        if depth > MAX_DEPTH {
            return Err(Broken(at, "the nesting is too deep"));
        }
        let end_at = |byte: u8, reason| {
            let found = self.text[at + 1..].iter().position(|found| *found == byte);
            found.map(|found| at + 1 + found + 1).ok_or(Broken(at, reason))
        };
        match self.peek(at) {
            b'\'' => end_at(b'\'', "a `'` is not closed"),
            b'"' => {
                let mut at_end = at + 1;
                loop {
                    at_end = match self.text.get(at_end) {
                        None => return Err(Broken(at, "a `\"` is not closed")),
                        Some(b'"') => return Ok(at_end + 1),
                        Some(b'\'') => at_end + 1,
                        Some(_) => self.piece(at_end, depth + 1)?,
                    }
                }
            }
            b'\\' => Ok((at + 2).min(self.text.len())),
            b'`' => {
                let mut end = at + 1;
                loop {
                    end = match self.text.get(end) {
                        None => return Err(Broken(at, "a backtick is not closed")),
                        Some(b'`') => return Ok(end + 1),
                        Some(b'\\') => end + 2,
                        Some(_) => end + 1,
                    }
                }
            }
            b'$' if self.peek(at + 1) == b'(' => self.nested(at + 2, b'(', b')', depth),
            b'$' if self.peek(at + 1) == b'{' => self.nested(at + 2, 0, b'}', depth),
            _ => Ok(at + 1),
        }
    }

    /// Returns the end of what `close` ends; `open` nests.
    fn nested(&self, begin: usize, open: u8, close: u8, depth: usize) -> Result<usize, Broken> {
        let (mut at, mut level) = (begin, 0usize);
        loop {
            at = match self.text.get(at) {
                None => return Err(Broken(begin, "a `$(` or `${` is not closed")),
                Some(byte) if *byte == close && level == 0 => return Ok(at + 1),
                Some(byte) if *byte == close => {
                    level -= 1;
                    at + 1
                }
                Some(byte) if *byte == open => {
                    level += 1;
                    at + 1
                }
                Some(b'#') if close == b')' && self.text[..at].ends_with(b" ") => {
                    at + self.text[at..].iter().position(|byte| *byte == b'\n').unwrap_or(self.text.len() - at)
                }
                Some(_) => self.piece(at, depth + 1)?,
            }
        }
    }
}

/// Shell names: letters, digits and `_`, no digit first.
fn name_len(text: &[u8]) -> usize {
    match text.first() {
        Some(first) if first.is_ascii_alphabetic() || *first == b'_' => {
            text.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count()
        }
        _ => 0,
    }
}

fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

struct State<'s, 'f> {
    file: &'s File<'f>,
    variables: &'s mut Variables,
    frames: Vec<Frame>,
    /// The next `{` or `(` opens the body of a function.
    function: bool,
    /// `exit`, `return` or an error ended the file, or may have ended it.
    aborted: bool,
}

impl State<'_, '_> {
    fn commands(&mut self) -> Result<(), Broken> {
        let file = self.file;
        let (mut at, mut before) = (0, Operator::Sequence);
        let mut command = Command::default();
        // Here-documents whose text begins at the next newline: the word that ends each, and whether tabs are stripped.
        let mut documents: Vec<(Vec<u8>, bool)> = Vec::new();
        loop {
            let (operator, length) = match (file.peek(at), file.peek(at + 1)) {
                (0, _) => {
                    self.command(&std::mem::take(&mut command), before, Operator::Sequence)?;
                    return match self.frames.is_empty() {
                        true => Ok(()),
                        false => Err(Broken(at, "a compound command is not closed")),
                    };
                }
                (b' ' | b'\t', _) => {
                    at += 1;
                    continue;
                }
                (b'\\', b'\n') => {
                    at += 2;
                    continue;
                }
                (b'#', _) => {
                    at += file.text[at..].iter().position(|byte| *byte == b'\n').unwrap_or(file.text.len() - at);
                    continue;
                }
                (b'\n', _) => {
                    at += 1;
                    for (word, strip) in documents.drain(..) {
                        at = self.skip_document(at, &word, strip)?;
                    }
                    (Operator::Sequence, 0)
                }
                (b';', b';' | b'&') => (Operator::Sequence, 2),
                (b';', _) => (Operator::Sequence, 1),
                (b'&', b'&') | (b'|', b'|' | b'&') => (Operator::Conditional, 2),
                (b'&' | b'|', _) => (Operator::Conditional, 1),
                (b'(', _) => (Operator::Open, 1),
                (b')', _) => (Operator::Close, 1),
                (b'<' | b'>', _) => {
                    command.redirected = true;
                    let here = file.text[at..].starts_with(b"<<") && !file.text[at..].starts_with(b"<<<");
                    let strip = file.text[at..].starts_with(b"<<-");
                    at += file.text[at..].iter().take_while(|byte| b"<>&|-".contains(byte)).count();
                    at += file.text[at..].iter().take_while(|byte| b" \t".contains(byte)).count();
                    let end = file.word(at)?;
                    if here {
                        let word = file.text[at..end].iter().filter(|byte| !b"'\"\\".contains(byte)).copied();
                        documents.push((word.collect(), strip));
                    }
                    at = end;
                    continue;
                }
                _ => {
                    let end = file.word(at)?;
                    command.words.push(at..end);
                    at = end;
                    continue;
                }
            };
            at += length;
            let mut after = operator;
            if operator == Operator::Open && command.words.len() == 1 && !command.redirected {
                let blanks = file.text[at..].iter().take_while(|byte| b" \t".contains(byte)).count();
                if file.peek(at + blanks) == b')' {
                    // `name ( )` defines a function; what it assigns when it is called is never known.
                    at += blanks + 1;
                    self.function = true;
                    command.words.clear();
                    after = Operator::Conditional;
                }
            }
            self.command(&std::mem::take(&mut command), before, after)?;
            match after {
                Operator::Open => {
                    let frame = if std::mem::take(&mut self.function) { Frame::Function } else { Frame::Paren };
                    self.frames.push(frame);
                }
                Operator::Close => match self.frames.last() {
                    // A pattern of `case` ends.
                    Some(Frame::Case) => {}
                    Some(Frame::Paren | Frame::Function) => {
                        self.frames.pop();
                    }
                    _ => return Err(Broken(at - 1, "a `)` closes nothing")),
                },
                Operator::Sequence | Operator::Conditional => {}
            }
            before = after;
        }
    }

    fn skip_document(&self, mut at: usize, word: &[u8], strip: bool) -> Result<usize, Broken> {
        let begin = at;
        while at < self.file.text.len() {
            let rest = &self.file.text[at..];
            let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
            let mut line = &rest[..end];
            while strip && line.first() == Some(&b'\t') {
                line = &line[1..];
            }
            at = (at + end + 1).min(self.file.text.len());
            if line == word {
                return Ok(at);
            }
        }
        Err(Broken(begin.saturating_sub(1), "a here-document is not closed"))
    }

    /// Takes one simple command with the keywords before it.
    fn command(&mut self, command: &Command, before: Operator, after: Operator) -> Result<(), Broken> {
        let file = self.file;
        let mut words = &command.words[..];
        let mut plain = true;
        while let Some(first) = words.first() {
            let close = |frames: &mut Vec<Frame>, wanted: &[Frame]| match frames.last() {
                Some(frame) if wanted.contains(frame) => {
                    frames.pop();
                    Ok(())
                }
                _ => Err(Broken(first.start, "a keyword closes nothing")),
            };
            match file.raw(first) {
                b"if" => self.frames.push(Frame::If),
                b"while" | b"until" => self.frames.push(Frame::Loop),
                b"for" | b"select" => {
                    if let Some(name) = words.get(1) {
                        let error = file.not_static(first.start, "the variable of a loop takes several values");
                        self.poison(&lossy(file.raw(name)), error);
                    }
                    self.frames.push(Frame::Loop);
                    return self.substitutions(&words[1..]);
                }
                b"case" => {
                    self.frames.push(Frame::Case);
                    return self.substitutions(&words[1..]);
                }
                b"{" => {
                    let frame = if std::mem::take(&mut self.function) { Frame::Function } else { Frame::Brace };
                    self.frames.push(frame);
                }
                b"then" | b"else" | b"elif" | b"do" | b"!" => {}
                b"fi" => close(&mut self.frames, &[Frame::If])?,
                b"done" => close(&mut self.frames, &[Frame::Loop])?,
                b"esac" => close(&mut self.frames, &[Frame::Case])?,
                b"}" => close(&mut self.frames, &[Frame::Brace, Frame::Function])?,
                b"function" if file.dialect == Dialect::Bash => {
                    self.function = true;
                    words = words.get(2..).unwrap_or(&[]);
                    continue;
                }
                _ => break,
            }
            plain = false;
            words = &words[1..];
        }
        if words.is_empty() {
            return Ok(());
        }
        plain &= self.frames.is_empty() && !command.redirected && !self.function;
        plain &= before == Operator::Sequence && after == Operator::Sequence;
        self.simple(words, plain)
    }

    fn simple(&mut self, words: &[Range<usize>], plain: bool) -> Result<(), Broken> {
        let file = self.file;
        let leading: Vec<_> = words.iter().map_while(|word| self.assignment(word)).collect();
        let rest = &words[leading.len()..];
        let Some(program) = rest.first() else {
            for (word, (name, append, value)) in words.iter().zip(leading) {
                if plain {
                    self.set(&name, append, value, false);
                } else {
                    let error = file.not_static(word.start, format!("`{name}` is not always assigned"));
                    self.poison(&name, error);
                }
            }
            return self.substitutions(words);
        };
        for (word, (name, ..)) in words.iter().zip(&leading) {
            let reason = format!("this runs `{}` with `{name}` for it alone", lossy(file.raw(program)));
            self.poison(name, file.not_static(word.start, reason));
        }
        let in_function = self.frames.contains(&Frame::Function);
        match file.raw(program) {
            b"export" if plain && leading.is_empty() => {
                for word in &rest[1..] {
                    match self.assignment(word) {
                        Some((name, append, value)) => self.set(&name, append, value, true),
                        None if name_len(file.raw(word)) == word.len() => {}
                        None => self.poison_names(word.clone(), "`export` is given something else than a variable"),
                    }
                }
            }
            b"unset" if plain && leading.is_empty() => {
                for word in &rest[1..] {
                    let name = lossy(file.raw(word));
                    if name_len(name.as_bytes()) == name.len() && !self.aborted {
                        self.variables.known.remove(&name);
                        if let Some(floor) = &self.variables.floor {
                            self.variables.known.insert(name, Err(floor.clone()));
                        }
                    } else {
                        self.poison_names(word.clone(), "what is unset is not known");
                    }
                }
            }
            b"eval" | b"." | b"source" => {
                let error = file.not_static(program.start, "this may assign any variable");
                self.forget(error);
            }
            b"return" if in_function => {}
            b"return" | b"exit" | b"exec" => {
                let error = file.not_static(program.start, "the file may end here");
                self.forget(error);
                self.aborted = true;
            }
            b"read" | b"unset" | b"export" | b"local" | b"declare" | b"typeset" | b"readonly" | b"getopts" | b"let"
            | b"mapfile" | b"readarray" | b"printf"
                if file.raw(program) != b"printf" || rest.get(1).is_some_and(|word| file.raw(word) == b"-v") =>
            {
                let range = program.start..rest.last().map_or(program.end, |word| word.end);
                self.poison_names(range, "the value is not known here");
            }
            raw => {
                let name = name_len(raw);
                if raw[name..].starts_with(b"+=") && name > 0 {
                    let error =
                        file.not_static(program.start, "`+=` is no assignment in the shell that reads this file");
                    self.poison(&lossy(&raw[..name]), error.clone());
                    self.forget(error);
                    self.aborted = true;
                } else if raw[name..].starts_with(b"[") && name > 0 {
                    let error = file.not_static(program.start, "arrays are not evaluated");
                    self.poison(&lossy(&raw[..name]), error);
                }
            }
        }
        self.substitutions(words)
    }

    /// Looks for expansions that assign: `${NAME:=…}`, `${NAME=…}`, `$((NAME=…))`.
    fn substitutions(&mut self, words: &[Range<usize>]) -> Result<(), Broken> {
        for word in words {
            let raw = self.file.raw(word);
            for at in 0..raw.len() {
                if raw[at..].starts_with(b"$((") {
                    self.poison_names(word.clone(), "arithmetic is not evaluated");
                    break;
                } else if raw[at..].starts_with(b"${") {
                    let name = name_len(&raw[at + 2..]);
                    let rest = &raw[at + 2 + name..];
                    if rest.starts_with(b"=") || rest.starts_with(b":=") {
                        let error = self.file.not_static(word.start, "an expansion assigns the variable");
                        self.poison(&lossy(&raw[at + 2..at + 2 + name]), error);
                    }
                }
            }
        }
        Ok(())
    }

    /// Splits a word that is an assignment into name, `+=` and the range of the value.
    fn assignment(&self, word: &Range<usize>) -> Option<(String, bool, Range<usize>)> {
        let raw = self.file.raw(word);
        let name = name_len(raw);
        let append = raw[name..].starts_with(b"+=") && self.file.dialect == Dialect::Bash;
        let sign = if append { 2 } else { 1 };
        (name > 0 && (append || raw[name..].starts_with(b"=")))
            .then(|| (lossy(&raw[..name]), append, word.start + name + sign..word.end))
    }

    fn set(&mut self, name: &str, append: bool, value: Range<usize>, exported: bool) {
        let file = self.file;
        let raw = file.raw(&value);
        let result = self.value(value.clone(), exported).and_then(|new| {
            if !append {
                return Ok(new);
            }
            let old = self.lookup(name, value.start)?;
            Ok([old.unwrap_or_default(), new].concat())
        });
        let result = result.and_then(|value_bytes| {
            if value_bytes.len() > MAX_VALUE {
                Err(file.not_static(value.start, "the value is too long"))
            } else if std::str::from_utf8(&value_bytes).is_err() {
                Err(file.not_static(value.start, "the value is no UTF-8"))
            } else {
                Ok(value_bytes)
            }
        });
        let reference = |form: &[u8]| raw.windows(form.len()).any(|window| window == form);
        let keeps = append || reference(format!("${name}").as_bytes()) || reference(format!("${{{name}").as_bytes());
        self.variables.assignments.push(Assignment {
            source: file.index,
            line: file.line(value.start),
            name: name.to_owned(),
            append,
            form: form(raw, value.start),
            keeps,
        });
        if self.aborted {
            return;
        }
        self.variables.known.insert(name.to_owned(), result);
    }

    fn poison(&mut self, name: &str, error: NotStatic) {
        if !self.aborted {
            self.variables.known.insert(name.to_owned(), Err(error));
        }
    }

    fn poison_names(&mut self, range: Range<usize>, reason: &str) {
        let file = self.file;
        let raw = file.raw(&range);
        let mut at = 0;
        while at < raw.len() {
            let length = name_len(&raw[at..]);
            if length > 0 {
                let error = file.not_static(range.start + at, reason);
                self.poison(&lossy(&raw[at..at + length]), error);
            }
            at += length.max(1);
        }
    }

    /// All variables are unknown from here on.
    fn forget(&mut self, error: NotStatic) {
        if !self.aborted {
            self.variables.known.clear();
            self.variables.floor = Some(error);
        }
    }

    fn lookup(&self, name: &str, at: usize) -> Result<Option<Vec<u8>>, NotStatic> {
        match (self.variables.known.get(name), &self.variables.floor) {
            (Some(Ok(value)), _) => Ok(Some(value.clone())),
            (Some(Err(error)), _) | (None, Some(error)) => Err(error.clone()),
            // The generator itself starts with these unset; the others are its own and not known here.
            (None, None) if name.starts_with("GRUB_CMDLINE") => Ok(None),
            (None, None) => Err(self.file.not_static(at, format!("`${name}` is assigned by none of the files before"))),
        }
    }

    /// Evaluates the value of an assignment.
    fn value(&self, range: Range<usize>, exported: bool) -> Result<Vec<u8>, NotStatic> {
        let file = self.file;
        let (mut at, end) = (range.start, range.end);
        let mut out = Vec::new();
        let mut quoted = false;
        // A tilde at the begin or behind `:` is somebody's home directory.
        let mut tilde = true;
        while at < end {
            let byte = file.text[at];
            let was_tilde = std::mem::replace(&mut tilde, false);
            match byte {
                b'"' => {
                    quoted = !quoted;
                    at += 1;
                }
                b'\'' if !quoted => {
                    let close = file.piece(at, 0).map_err(|Broken(at, reason)| file.not_static(at, reason))?;
                    out.extend_from_slice(&file.text[at + 1..close - 1]);
                    at = close;
                }
                b'\\' => {
                    match file.peek(at + 1) {
                        b'\n' => {}
                        next if !quoted || b"$`\"\\".contains(&next) => {
                            // A backslash that ends the file stands for itself.
                            out.push(if at + 1 < end { next } else { b'\\' });
                        }
                        next => out.extend([b'\\', next]),
                    }
                    at += 2;
                }
                b'`' => return Err(file.not_static(at, "the output of a command is not known")),
                b'$' => {
                    if exported && !quoted {
                        return Err(file.not_static(at, "an unquoted variable behind `export` may be split"));
                    }
                    at = self.expansion(at, end, quoted, &mut out, 0)?;
                }
                b'~' if !quoted && was_tilde => return Err(file.not_static(at, "`~` is not evaluated")),
                b'*' | b'?' | b'[' if !quoted && exported => {
                    return Err(file.not_static(at, "a pattern behind `export` may be expanded"));
                }
                byte => {
                    tilde = byte == b':' && !quoted;
                    out.push(byte);
                    at += 1;
                }
            }
            if out.len() > MAX_VALUE {
                return Err(file.not_static(range.start, "the value is too long"));
            }
        }
        Ok(out)
    }

    /// Evaluates what begins with `$` at `at`, and returns where it ends.
    fn expansion(
        &self,
        at: usize,
        end: usize,
        quoted: bool,
        out: &mut Vec<u8>,
        depth: usize,
    ) -> Result<usize, NotStatic> {
        let file = self.file;
        let unknown = |reason: &str| Err(file.not_static(at, reason));
        match file.peek(at + 1) {
            b'(' if file.peek(at + 2) == b'(' => unknown("arithmetic is not evaluated"),
            b'(' => unknown("the output of a command is not known"),
            b'\'' | b'"' if !quoted && file.dialect == Dialect::Bash => unknown("`$'` and `$\"` are not evaluated"),
            b'{' => {
                let close = file.piece(at, 0).map_err(|Broken(at, reason)| file.not_static(at, reason))?;
                let inner = at + 2..close - 1;
                let name = name_len(file.raw(&inner));
                if name == 0 || depth > MAX_DEPTH {
                    return unknown("this expansion is not evaluated");
                }
                let value = self.lookup(&lossy(&file.text[inner.start..inner.start + name]), at);
                let operator = &file.text[inner.start + name..inner.end];
                let nonempty = |value: &Option<Vec<u8>>| value.as_ref().is_some_and(|value| !value.is_empty());
                let (skip, wanted) = match operator {
                    [] => {
                        out.extend(value?.unwrap_or_default());
                        return Ok(close);
                    }
                    [b':', b'+', ..] => (2, nonempty(&value?).then_some(None)),
                    [b'+', ..] => (1, value?.is_some().then_some(None)),
                    [b':', b'-', ..] => {
                        let value = value?;
                        (2, if nonempty(&value) { Some(value) } else { Some(None) })
                    }
                    [b'-', ..] => (1, Some(value?)),
                    _ => return unknown("this expansion is not evaluated"),
                };
                match wanted {
                    None => {}
                    Some(Some(value)) => out.extend(value),
                    Some(None) => self.alternative(inner.start + name + skip..inner.end, out, depth + 1)?,
                }
                Ok(close)
            }
            next if next.is_ascii_digit() || b"@*#?-!$".contains(&next) => unknown("this expansion is not evaluated"),
            _ => {
                let name = name_len(&file.text[at + 1..end]);
                if name == 0 {
                    out.push(b'$');
                    return Ok(at + 1);
                }
                out.extend(self.lookup(&lossy(&file.text[at + 1..at + 1 + name]), at)?.unwrap_or_default());
                Ok(at + 1 + name)
            }
        }
    }

    /// Evaluates the word of `${NAME:+word}`; only one without quotes has the same meaning in every shell.
    fn alternative(&self, range: Range<usize>, out: &mut Vec<u8>, depth: usize) -> Result<(), NotStatic> {
        let file = self.file;
        let mut at = range.start;
        while at < range.end {
            match file.text[at] {
                b'\'' | b'"' | b'\\' | b'`' | b'~' => {
                    return Err(file.not_static(at, "quotes in an expansion are not evaluated"));
                }
                b'$' => at = self.expansion(at, range.end, true, out, depth)?,
                byte => {
                    out.push(byte);
                    at += 1;
                }
            }
            if out.len() > MAX_VALUE {
                return Err(file.not_static(range.start, "the value is too long"));
            }
        }
        Ok(())
    }
}

/// Tells how a value is written; a carriage return behind it is not seen as part of it.
fn form(raw: &[u8], at: usize) -> Form {
    let raw = raw.strip_suffix(b"\r").unwrap_or(raw);
    let has = |inner: &[u8], special: &[u8]| inner.iter().any(|byte| special.contains(byte));
    let pair =
        |quote: u8| (raw.len() >= 2 && raw[0] == quote && raw.ends_with(&[quote])).then(|| &raw[1..raw.len() - 1]);
    let range = at + 1..(at + raw.len()).saturating_sub(1);
    if let Some(inner) = pair(b'\'') {
        return if has(inner, b"'\n") { Form::Other } else { Form::Single(range) };
    }
    if let Some(inner) = pair(b'"') {
        if !has(inner, b"\"$`\\\n") {
            return Form::Double(range);
        }
        let escaped = inner.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1;
        let command = inner.windows(2).any(|pair| pair == b"$(");
        let mut quotes = inner.iter().enumerate().filter(|(_, byte)| **byte == b'"');
        let closed = quotes.all(|(at, _)| at > 0 && inner[at - 1] == b'\\' && !inner[..at - 1].ends_with(b"\\"));
        return if escaped || command || !closed || has(inner, b"`\n") { Form::Other } else { Form::References(range) };
    }
    match has(raw, b"'\"$`\\\n~*?[") {
        true => Form::Other,
        false => Form::Bare(at..at + raw.len()),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "the tests ask the real dash what a file assigns")]

    use proptest::prelude::*;

    use super::*;

    const VARIABLES: [&str; 6] = [
        "GRUB_CMDLINE_LINUX",
        "GRUB_CMDLINE_LINUX_DEFAULT",
        "GRUB_CMDLINE_XEN",
        "GRUB_CMDLINE_XEN_DEFAULT",
        "GRUB_CMDLINE_LINUX_XEN_REPLACE",
        "GRUB_CMDLINE_LINUX_XEN_REPLACE_DEFAULT",
    ];

    fn path() -> AbsPath {
        AbsPath::known("/etc/default/grub")
    }

    fn evaluate(text: &[u8], dialect: Dialect) -> Variables {
        Variables::evaluate(&[Source { path: &path(), text }], dialect)
    }

    #[test]
    fn values_are_those_of_the_shell() {
        let cases: &[(&str, &str)] = &[
            ("A=b", "b"),
            ("A=", ""),
            ("A='b \"c\" $d'", "b \"c\" $d"),
            ("A=\"b 'c'\"", "b 'c'"),
            ("A=\"b \\\" \\$ \\\\ \\x \\` end\"", "b \" $ \\ \\x ` end"),
            ("A=a'b c'\"d e\"f\\ g", "ab cd ef g"),
            ("export A=\"x y\" # comment", "x y"),
            ("export B; A=1; B=2", "1"),
            ("A=1;A=2", "2"),
            ("A=a#b", "a#b"),
            ("A=\"x\\\ny\"", "xy"),
            ("A=x\\\ny", "xy"),
            ("A=\"x\ny\"", "x\ny"),
            ("B=1\nA=\"$B ${B}2 $B-\"", "1 12 1-"),
            ("A=x\nA=\"$A y\"", "x y"),
            ("A=\"${GRUB_CMDLINE_LINUX}x$GRUB_CMDLINE_XEN\"", "x"),
            ("A=x\nA=\"${A:+$A }\\$tuned_params\"", "x $tuned_params"),
            ("A=\"${GRUB_CMDLINE_LINUX:+$GRUB_CMDLINE_LINUX }y\"", "y"),
            ("A=\"${GRUB_CMDLINE_LINUX:-d e} ${GRUB_CMDLINE_LINUX-f}\"", "d e f"),
            ("B=\nA=\"[${B-f}${B:-g}${B+h}${B:+i}]\"", "[gh]"),
            ("A=\"cost $ 5$\"", "cost $ 5$"),
            ("echo A=2 # A=3\nA=1", "1"),
            ("A=1\nif true; then B=2; fi", "1"),
            ("B=$(echo \"A=2\")\nA=1", "1"),
            ("B=`lsb_release -i -s 2> /dev/null || echo Debian`\nA=1", "1"),
            ("A=1\ncat <<EOF\nA=2\nEOF\n", "1"),
            ("A=1\ncat <<-'EOF'\n\tA=2\n\tEOF\nB=1", "1"),
            ("A=1\ncase $x in a|b) B=2;; (c) B=3;; esac\n", "1"),
            ("A=1\nf() { B=2; return 1; }\nf", "1"),
            ("A=1\nunset B", "1"),
            ("A=1\n[ -n \"$A\" ] && echo hello", "1"),
            ("\tA=\"b\"\r", "b"),
            ("A=x:y", "x:y"),
            ("A=a=b", "a=b"),
        ];
        for (text, value) in cases {
            let found = evaluate(text.as_bytes(), Dialect::Posix);
            let found = found.get("A").unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(found.map(|found| found.trim_end_matches('\r')), Some(*value), "{text}");
        }
        assert_eq!(evaluate(b"A=x\nA+=' y'", Dialect::Bash).get("A").unwrap(), Some("x y"));
        assert_eq!(evaluate(b"B=x", Dialect::Bash).get("A").unwrap(), None);
        assert!(evaluate(b"B=$'\\'\nA=1\n#'\n", Dialect::Bash).get("A").is_err());
    }

    #[test]
    fn what_is_not_static_is_told_with_its_line() {
        let cases: &[(&str, usize, &str)] = &[
            ("B=1\nA=$(cat /proc/cmdline)", 2, "output of a command"),
            ("A=`x`", 1, "output of a command"),
            ("A=$((1+1))", 1, "arithmetic"),
            ("A=\"${B%x}\"", 1, "not evaluated"),
            ("B=1\nA=\"${B%x}\"", 2, "not evaluated"),
            ("A=$1", 1, "not evaluated"),
            ("A=$OTHER", 1, "assigned by none"),
            ("A=~/x", 1, "`~`"),
            ("A=1\nif [ -e /x ]; then\n  A=2\nfi", 3, "not always"),
            ("A=1\n[ -e /x ] && A=2", 2, "not always"),
            ("A=1 | cat", 1, "not always"),
            ("(A=1)", 1, "not always"),
            ("for A in 1 2; do :; done", 1, "loop"),
            ("case x in x) A=1;; esac", 1, "not always"),
            ("f() { A=1; }", 1, "not always"),
            ("A=1\n. /etc/other", 2, "any variable"),
            ("A=1\neval \"A=2\"", 2, "any variable"),
            ("A=1\nread A", 2, "not known"),
            ("A=1\nexit 0", 2, "may end"),
            ("return\nA=1", 1, "may end"),
            ("A=b c", 1, "runs `c`"),
            ("A+=x", 1, "`+=`"),
            ("A=1\n: ${A:=2}", 2, "expansion assigns"),
            ("A=1\n: $((A=2))", 2, "arithmetic"),
            ("A=\"x", 1, "not closed"),
            ("A=1\nif true; then", 2, "not closed"),
            ("export A=$GRUB_CMDLINE_LINUX", 1, "split"),
            ("A=1 > /dev/null", 1, "not always"),
            ("A=(1 2)", 1, "not always"),
        ];
        for (text, line, reason) in cases {
            let error = evaluate(text.as_bytes(), Dialect::Posix).get("A").expect_err(text);
            assert!(error.line == *line && error.reason.contains(reason), "{text}: {error}");
        }
        let error = evaluate(b"A=\"\xff\"", Dialect::Posix).get("A").unwrap_err();
        assert!(error.reason.contains("UTF-8"));
        let doubling: String =
            std::iter::once("A=xx\n".to_owned()).chain((0..64).map(|_| "A=$A$A\n".to_owned())).collect();
        assert!(evaluate(doubling.as_bytes(), Dialect::Posix).get("A").is_err());
    }

    #[test]
    fn an_assignment_is_edited_in_place() {
        let cases: &[(&str, &str, &str)] = &[
            ("A=\"x\"\nB=1\n", "y z", "A=\"y z\"\nB=1\n"),
            ("A='x' # c\n", "y", "A='y' # c\n"),
            ("A=x\r\nB=1\r\n", "y z", "A=\"y z\"\r\nB=1\r\n"),
            ("A=\"x\"\r\n", "y", "A=\"y\"\r\n"),
            ("A=1\nA=2", "3", "A=1\nA=\"3\""),
            ("B=1", "x", "B=1\nA=\"x\"\n"),
            ("", "x", "A=\"x\"\n"),
            ("A=", "x", "A=\"x\""),
            ("#A=1\n", "x", "#A=1\nA=\"x\"\n"),
            ("export A='b \"c d\"'\n", "b \"c d\" e", "export A='b \"c d\" e'\n"),
        ];
        for (before, value, after) in cases {
            let new = assign(&path(), before.as_bytes(), "A", value, Dialect::Posix);
            assert_eq!(new.as_deref().map(lossy), Ok((*after).to_owned()), "{before}");
        }
        let latin = assign(&path(), b"# \xe9t\xe9\nA=\"x\"\n", "A", "y", Dialect::Posix).unwrap();
        assert_eq!(latin, b"# \xe9t\xe9\nA=\"y\"\n");
        for refused in
            ["A=\"$B x\"", "A=\"\\$x\"", "A=a'b'", "A=$(x)", "A=\"x\ny\"", "A=1\nif x; then A=2; fi", "A=1 b"]
        {
            let text = format!("B=1\n{refused}\n");
            assert!(assign(&path(), text.as_bytes(), "A", "y", Dialect::Posix).is_err(), "{refused}");
        }
    }

    /// Returns what dash says of a variable after it read the file as the generator does; `None` if it fails.
    fn dash(file: &std::path::Path, variable: &str) -> Option<Vec<u8>> {
        let script = format!("set -e; . {}; printf %s \"${{{variable}-unset}}\"", file.display());
        let mut command = std::process::Command::new("dash");
        let output = command.arg("-c").arg(script).env_clear().env("PATH", "/nonexistent").output().ok()?;
        output.status.success().then_some(output.stdout)
    }

    fn judged_by_dash(directory: &std::path::Path, text: &[u8]) -> usize {
        let file = directory.join("grub");
        std::fs::write(&file, text).unwrap();
        let variables = evaluate(text, Dialect::Posix);
        let mut judged = 0;
        for variable in VARIABLES {
            // dash failing is no counterexample: the generator fails too.
            if let (Ok(ours), Some(theirs)) = (variables.get(variable), dash(&file, variable)) {
                assert_eq!(ours.unwrap_or("unset").as_bytes(), theirs, "{variable} of {}", lossy(text));
                judged += 1;
            }
            if let Ok(new) = assign(&path(), text, variable, "new words", Dialect::Posix) {
                std::fs::write(&file, &new).unwrap();
                let value = dash(&file, variable);
                assert!(value.is_none_or(|value| value == b"new words" || value == b"new words\r"), "{}", lossy(&new));
                std::fs::write(&file, text).unwrap();
            }
        }
        judged
    }

    #[test]
    fn dash_finds_the_same_values_in_the_corpus() {
        let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/grub/default");
        let directory = tempfile::tempdir().unwrap();
        if dash(std::path::Path::new("/dev/null"), "x").is_none() {
            println!("skipped: no dash");
            return;
        }
        let mut judged = 0;
        for entry in std::fs::read_dir(corpus).unwrap() {
            let text = std::fs::read(entry.unwrap().path()).unwrap();
            judged += judged_by_dash(directory.path(), &text);
        }
        assert!(judged >= 60, "{judged}");
    }

    fn nasty() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            "[a-c =]{1,4}",
            Just("\"".to_owned()),
            Just("'".to_owned()),
            Just("\\".to_owned()),
            Just("$GRUB_CMDLINE_LINUX".to_owned()),
            Just("${GRUB_CMDLINE_LINUX}".to_owned()),
            Just("${GRUB_CMDLINE_LINUX:+x y}".to_owned()),
            Just("$".to_owned()),
            Just("\n".to_owned()),
            Just(";".to_owned()),
            Just("#".to_owned()),
            Just("&&".to_owned()),
            Just("if true; then ".to_owned()),
            Just("; fi\n".to_owned()),
            Just("\r\n".to_owned()),
            Just("\nGRUB_CMDLINE_LINUX=".to_owned()),
            Just("\nexport GRUB_CMDLINE_XEN=\"".to_owned()),
        ];
        prop::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
    }

    #[test]
    fn the_largest_files_are_read_in_time() {
        let fill = |piece: &str| piece.repeat(MAX_FILE / piece.len());
        for text in [
            fill("A=$(x);"),
            fill("A=1;"),
            fill("A=$A$A;"),
            format!("echo '{}'", fill("$((").split_at(MAX_FILE - 99).0),
            fill("${A:+"),
            fill("\"$(`"),
            fill("eval x\n"),
            fill("(A=1"),
        ] {
            let variables = evaluate(text.as_bytes(), Dialect::Posix);
            let shown = variables.get("A").err().map_or(0, |error| error.text.len());
            assert!(shown < 200);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn dash_finds_the_same_values_in_anything(text in nasty()) {
            let directory = tempfile::tempdir().unwrap();
            judged_by_dash(directory.path(), text.as_bytes());
        }
    }

    proptest! {
        #[test]
        fn nothing_panics_and_an_edit_keeps_the_rest(text in nasty(), bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            evaluate(&bytes, Dialect::Bash);
            let name = "GRUB_CMDLINE_LINUX";
            if let Ok(new) = assign(&path(), text.as_bytes(), name, "x y", Dialect::Posix) {
                let again = assign(&path(), &new, name, "x y", Dialect::Posix).unwrap();
                prop_assert_eq!(&again, &new);
                // What is not the value is the same from both ends.
                let same = text.bytes().zip(&new).take_while(|(a, b)| a == *b).count();
                let rest = text.bytes().rev().zip(new.iter().rev()).take_while(|(a, b)| a == *b).count();
                prop_assert!(same + rest + 64 >= text.len());
            }
        }
    }
}
