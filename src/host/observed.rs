//! [`Observed`]: everything that was read from one host while planning.

use std::collections::BTreeMap;

use super::read::{Answer, Read};

/// The answers of one host, by question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    answers: BTreeMap<Read, Answer>,
}

impl Observed {
    /// Returns the answer to a question; `None` if it was not asked yet.
    #[must_use]
    pub fn get(&self, read: &Read) -> Option<&Answer> {
        self.answers.get(read)
    }

    /// Keeps an answer.
    pub fn put(&mut self, read: Read, answer: Answer) {
        self.answers.insert(read, answer);
    }

    /// Returns all questions and answers.
    pub fn iter(&self) -> impl Iterator<Item = (&Read, &Answer)> {
        self.answers.iter()
    }

    /// Returns how many questions were answered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.answers.len()
    }

    /// Tells whether nothing was asked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }
}
