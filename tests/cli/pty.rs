//! A terminal with the binary in it: a pseudo-terminal of the system, and a screen that shows what
//! was written to it, cell by cell. A control sequence that the screen does not know is a failure.

use std::fmt::{self, Display, Formatter};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// A character, and the number of its colour: 0 is plain.
type Cell = (char, u8);

/// What a person sees, and what scrolled away above.
#[derive(Debug, Clone)]
pub struct Screen {
    columns: usize,
    rows: Vec<Vec<Cell>>,
    /// The column may be one too far right: the next character begins a new row.
    cursor: (usize, usize),
    colour: u8,
}

impl Screen {
    fn new(columns: usize) -> Self {
        Self { columns, rows: vec![Vec::new()], cursor: (0, 0), colour: 0 }
    }

    /// The rows that are not empty.
    pub fn lines(&self) -> Vec<String> {
        let line = |row: &Vec<Cell>| row.iter().map(|cell| cell.0).collect::<String>();
        let lines = self.rows.iter().map(line).map(|line| line.trim_end().to_string());
        lines.filter(|line| !line.is_empty()).collect()
    }

    /// Each piece of text in one colour, from the top.
    pub fn colours(&self) -> Vec<(String, u8)> {
        let pieces = self.rows.iter().flat_map(|row| row.chunk_by(|a, b| a.1 == b.1));
        pieces.map(|cells| (cells.iter().map(|cell| cell.0).collect(), cells[0].1)).collect()
    }

    /// Takes whole characters and sequences; gives back what is not whole yet.
    fn take<'a>(&mut self, text: &'a [u8]) -> &'a [u8] {
        let mut rest = text;
        while let Some(taken) = self.take_one(rest) {
            rest = &rest[taken..];
        }
        rest
    }

    fn take_one(&mut self, text: &[u8]) -> Option<usize> {
        match *text.first()? {
            b'\r' => self.cursor.1 = 0,
            b'\n' => self.cursor.0 += 1,
            0x1b => return self.take_sequence(text),
            byte => {
                assert!(byte >= b' ', "control character {byte}");
                let length =
                    [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 3, 4][usize::from(byte >> 4)];
                let whole = std::str::from_utf8(text.get(..length)?).unwrap();
                self.put(whole.chars().next().unwrap());
                return Some(length);
            }
        }
        Some(1)
    }

    fn take_sequence(&mut self, text: &[u8]) -> Option<usize> {
        let end = 2 + text.get(2..)?.iter().position(|byte| (b'@'..=b'~').contains(byte))?;
        let sequence = std::str::from_utf8(&text[1..=end]).unwrap();
        let number = sequence[1..sequence.len() - 1].parse().unwrap_or(1);
        match (text[end], &sequence[1..sequence.len() - 1]) {
            _ if text[1] != b'[' => panic!("unknown sequence {sequence:?}"),
            (b'm', colour) => self.colour = colour.parse().unwrap_or(0),
            (b'K', "2") => self.row().clear(),
            (b'K', "" | "0") => {
                let column = self.cursor.1;
                self.row().truncate(column);
            }
            (b'A', _) => self.cursor.0 = self.cursor.0.saturating_sub(number),
            (b'B', _) => self.cursor.0 += number,
            (b'G', _) => self.cursor.1 = number - 1,
            _ => panic!("unknown sequence {sequence:?}"),
        }
        Some(end + 1)
    }

    fn row(&mut self) -> &mut Vec<Cell> {
        let needed = self.rows.len().max(self.cursor.0 + 1);
        self.rows.resize(needed, Vec::new());
        &mut self.rows[self.cursor.0]
    }

    fn put(&mut self, c: char) {
        if self.cursor.1 == self.columns {
            self.cursor = (self.cursor.0 + 1, 0);
        }
        let (column, colour) = (self.cursor.1, self.colour);
        let row = self.row();
        row.resize(row.len().max(column + 1), (' ', 0));
        row[column] = (c, colour);
        self.cursor.1 += 1;
    }
}

impl Display for Screen {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().join("\n"))
    }
}

/// A running command, its terminal and whoever reads from it.
pub struct Terminal {
    child: Child,
    keyboard: File,
    screen: Arc<(Mutex<Screen>, Condvar)>,
    reader: JoinHandle<()>,
}

impl Terminal {
    /// Runs a command at a new terminal. What goes to its stdout goes there too, or elsewhere.
    pub fn run(mut command: Command, columns: u16, stdout: Option<Stdio>) -> Self {
        let (master, slave) = pair(columns).unwrap();
        let end = || slave.try_clone().unwrap();
        command.env("TERM", "xterm-256color");
        command.stdin(end()).stderr(end()).stdout(stdout.unwrap_or_else(|| end().into()));
        // SAFETY: between fork and exec only system calls are made.
        unsafe { command.pre_exec(own_terminal) };
        let child = command.spawn().unwrap();
        let screen = Arc::new((Mutex::new(Screen::new(usize::from(columns))), Condvar::default()));
        let (shown, from) = (screen.clone(), master.try_clone().unwrap());
        let reader = std::thread::spawn(move || show(from, &shown));
        Self { child, keyboard: master, screen, reader }
    }

    pub fn press(&mut self, key: u8) {
        self.keyboard.write_all(&[key]).unwrap();
    }

    /// Waits until the screen is as wanted; gives it.
    pub fn until(&self, wanted: impl Fn(&Screen) -> bool) -> Screen {
        let (screen, changed) = &*self.screen;
        let screen = screen.lock().unwrap();
        let waited = changed.wait_timeout_while(screen, PATIENCE, |screen| !wanted(screen));
        let (screen, timeout) = waited.unwrap();
        assert!(!timeout.timed_out(), "it never showed:\n{screen}");
        screen.clone()
    }

    /// Waits until the command ends; gives how, and what is left on the screen.
    pub fn end(mut self) -> (ExitStatus, Screen) {
        let status = self.child.wait().unwrap();
        self.reader.join().unwrap();
        let screen = self.screen.0.lock().unwrap().clone();
        (status, screen)
    }
}

fn show(mut from: File, screen: &(Mutex<Screen>, Condvar)) {
    let (mut waiting, mut piece) = (Vec::new(), [0; 4096]);
    // A terminal that nobody writes to any more ends with an error.
    while let Ok(1..) = from.read(&mut piece).inspect(|n| waiting.extend(&piece[..*n])) {
        let left = screen.0.lock().unwrap().take(&waiting).len();
        waiting.drain(..waiting.len() - left);
        screen.1.notify_all();
    }
    assert!(waiting.is_empty(), "half a sequence: {waiting:?}");
}

/// The two ends of a new terminal. No other child of this process inherits them.
fn pair(columns: u16) -> io::Result<(File, File)> {
    let checked = |code: i32| if code == -1 { Err(io::Error::last_os_error()) } else { Ok(code) };
    let mut name = vec![0u8; 128];
    let size = libc::winsize { ws_row: 40, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the descriptor is new and has one owner; the name has room for its end.
    let master = unsafe {
        let fd = checked(libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC))?;
        let master = File::from_raw_fd(fd);
        checked(libc::grantpt(fd))?;
        checked(libc::unlockpt(fd))?;
        checked(-i32::from(libc::ptsname_r(fd, name.as_mut_ptr().cast(), name.len()) != 0))?;
        checked(libc::ioctl(fd, libc::TIOCSWINSZ, &size))?;
        master
    };
    name.truncate(name.iter().position(|byte| *byte == 0).unwrap());
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_NOCTTY);
    let slave = options.open(std::ffi::OsString::from_vec(name))?;
    // What was written stays when Ctrl-C is pressed, or the screen would miss some of it.
    // SAFETY: all of it is written before it is read.
    unsafe {
        let mut mode = std::mem::zeroed();
        checked(libc::tcgetattr(slave.as_raw_fd(), &mut mode))?;
        mode.c_lflag |= libc::NOFLSH;
        checked(libc::tcsetattr(slave.as_raw_fd(), libc::TCSANOW, &mode))?;
    }
    Ok((master, slave))
}

/// Makes standard input the terminal whose keys send signals to this process.
fn own_terminal() -> io::Result<()> {
    // SAFETY: system calls without memory.
    let done = unsafe { libc::setsid() != -1 && libc::ioctl(0, libc::TIOCSCTTY, 0) != -1 };
    if done { Ok(()) } else { Err(io::Error::last_os_error()) }
}
