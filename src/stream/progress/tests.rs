//! What is left to read, by a token taken at any moment, against a plain set of rows.

use std::collections::BTreeSet;

use super::*;
use crate::clock::SeededIds;

const FILES: u32 = 12;
const ROWS: u64 = 9;

fn start(file: u32) -> Cursor {
    Cursor::File { manifest: file / 5, entry: file % 5, row: 0 }
}

fn digest(file: u32) -> u64 {
    u64::from(file) * 31
}

/// A split that is read: rows `next..end` of a file are to come.
#[derive(Debug, Clone, Copy)]
struct Reading {
    file: u32,
    planned: Cursor,
    next: u64,
    end: u64,
}

/// What a stream that is opened with this token would read.
fn left(resume: &Resume) -> BTreeSet<(u32, u64)> {
    let of = |file| {
        let wanted = resume.wanted(0, start(file), digest(file)).unwrap();
        wanted
            .into_iter()
            .flat_map(move |rows| (rows.start..rows.end.min(ROWS)).map(move |row| (file, row)))
    };
    (0..FILES).flat_map(of).collect()
}

struct Life {
    dice: SeededIds,
    progress: Progress,
    /// Planned, and not begun.
    waiting: Vec<Reading>,
    reading: Vec<Reading>,
    planned: u32,
    resume: Resume,
}

impl Life {
    fn new(seed: u64) -> Self {
        let resume = Resume { step: 0, inside: None, ahead: Vec::new() };
        Self {
            dice: SeededIds::new(seed),
            progress: Progress::new(0, std::slice::from_ref(&resume)),
            waiting: Vec::new(),
            reading: Vec::new(),
            planned: 0,
            resume,
        }
    }

    fn below(&self, n: usize) -> usize {
        (self.dice.next_u64() % n as u64) as usize
    }

    fn restart(&mut self) {
        self.progress = Progress::new(0, std::slice::from_ref(&self.resume));
        (self.waiting, self.reading, self.planned) = (Vec::new(), Vec::new(), 0);
    }

    fn plan(&mut self) {
        if self.planned == FILES {
            return;
        }
        let file = self.planned;
        self.planned += 1;
        for rows in self.resume.wanted(0, start(file), digest(file)).unwrap() {
            let planned = start(file).at_row(rows.start);
            self.progress.plan(0, planned);
            self.waiting.push(Reading { file, planned, next: rows.start, end: rows.end });
        }
    }

    fn begin(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let mut split = self.waiting.remove(0);
        if split.end > ROWS && split.next + 3 < ROWS && self.below(3) == 0 {
            let cut = split.next + 3;
            let planned = start(split.file).at_row(cut);
            self.progress.plan(0, planned);
            self.waiting.insert(0, Reading { planned, next: cut, ..split });
            split.end = cut;
        }
        self.reading.push(split);
    }

    /// Delivers some rows of a split, or its end, or puts it back.
    fn read(&mut self, undelivered: &mut BTreeSet<(u32, u64)>) {
        if self.reading.is_empty() {
            return;
        }
        let at = self.below(self.reading.len());
        let Reading { file, planned, next, end } = self.reading[at];
        let inside = |row| Inside { cursor: start(file).at_row(row), digest: digest(file) };
        if next == end.min(ROWS) {
            self.progress.deliver(0, planned, inside(end), true);
            self.reading.remove(at);
        } else if self.below(8) == 0 {
            let split = self.reading.remove(at);
            self.waiting.insert(0, split);
        } else {
            let to = next + 1 + self.below((end.min(ROWS) - next) as usize) as u64;
            for row in next..to {
                assert!(undelivered.remove(&(file, row)), "row {row} of file {file} came twice");
            }
            self.progress.deliver(0, planned, inside(to), false);
            self.reading[at].next = to;
        }
        let (inside, ahead) = self.progress.of(0);
        self.resume = Resume { step: 0, inside, ahead };
    }
}

#[test]
fn a_token_tells_at_any_moment_exactly_what_was_delivered() {
    let mut most = 0;
    for seed in 0..300 {
        let mut life = Life::new(seed);
        let mut undelivered = left(&life.resume);
        assert_eq!(undelivered.len() as u64, u64::from(FILES) * ROWS);
        let decoders = 1 + life.below(5);
        let mut inherited = 0;
        while !undelivered.is_empty() {
            match life.below(10) {
                0 | 1 => life.plan(),
                2 | 3 if life.reading.len() < decoders => life.begin(),
                4 if life.below(30) == 0 => {
                    life.restart();
                    inherited = life.resume.ahead.len();
                }
                _ => life.read(&mut undelivered),
            }
            assert_eq!(left(&life.resume), undelivered, "seed {seed}: {:?}", life.resume);
            let runs = life.resume.ahead.len();
            let put_back = life.waiting.iter().filter(|split| split.next > 0).count();
            let begun = life.reading.len() + put_back;
            assert!(runs <= 2 * (begun + 1) + inherited, "seed {seed}: {:?}", life.resume);
            most = most.max(runs);
        }
    }
    assert!(most > 4, "no token had many runs: {most}");
}
