//! Processes that may be killed: this program again, with a hidden first argument.
//!
//! A child says what it found by its exit code and its last words; a panic in any of its threads aborts it, so that
//! none goes unseen.

use crate::drive::Failure;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use treering_lsm::Error;

/// The hidden first argument.
pub const CHILD: &str = "child";

/// Exit code of a child whose database failed it with an error of the device.
const DEVICE: u8 = 10;
/// Exit code of a child that found something.
const FOUND: u8 = 11;

/// The variable that names the planted bug which is awake, for every process that a row starts.
pub const PLANTED: &str = "TREERING_PLANTED";

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Says which file the program is, where it is not the running one: in tests. The first caller wins.
pub fn set_program(path: impl Into<PathBuf>) {
    let _said_before = PROGRAM.set(path.into());
}

/// Why a child ended before it was killed.
#[derive(Clone, Debug)]
pub enum End {
    /// The device failed it; fine after a power cut.
    Device(String),
    /// It found something.
    Found(Failure),
}

impl End {
    /// The end of a child to which `error` happened.
    pub fn of(error: Error) -> End {
        match error {
            Error::Io { .. } | Error::NoSpace { .. } | Error::Poisoned { .. } => {
                End::Device(error.to_string())
            }
            error => End::Found(error.to_string()),
        }
    }

    /// Says it and gives the exit code.
    pub fn say(self) -> u8 {
        let (code, words) = match self {
            End::Device(words) => (DEVICE, words),
            End::Found(words) => (FOUND, words),
        };
        eprintln!("{words}");
        code
    }
}

/// To be called first in a child: it dies with its parent, and a panic in any thread ends it.
pub fn begin() {
    #[cfg(planted)]
    if let Ok(name) = std::env::var(PLANTED) {
        assert!(treering_lsm::base::planted::wake(Some(&name)), "no planted bug {name:?}");
    }
    // SAFETY: a plain system call.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    std::panic::set_hook(Box::new(|info| {
        eprintln!("{info}");
        std::process::abort();
    }));
}

/// A running child; killed when dropped.
#[derive(Debug)]
pub struct Child {
    process: std::process::Child,
}

impl Child {
    /// Starts the program as a child that does `task`.
    ///
    /// # Errors
    /// The system's.
    pub fn start<S: AsRef<OsStr>>(
        task: &str,
        words: impl IntoIterator<Item = S>,
    ) -> io::Result<Child> {
        let program = match PROGRAM.get() {
            Some(path) => path.clone(),
            None => std::env::current_exe()?,
        };
        let mut command = Command::new(program);
        #[cfg(planted)]
        match treering_lsm::base::planted::awake() {
            Some(name) => command.env(PLANTED, name),
            None => command.env_remove(PLANTED),
        };
        let process = command
            .args([CHILD, task])
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        Ok(Child { process })
    }

    /// True if it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.process.try_wait().is_ok_and(|status| status.is_some())
    }

    /// kill -9, and waits until it is gone. A child that ended by itself before is a finding, unless the device had failed it
    /// and may have: `device_failed`.
    ///
    /// # Errors
    /// What the child found.
    pub fn kill(&mut self, device_failed: bool) -> Result<(), Failure> {
        self.process.kill().map_err(|error| format!("kill: {error}"))?;
        let (status, words) = self.end()?;
        let by_signal = match status.signal() {
            Some(libc::SIGKILL) => true,
            // A store into the mapped ring whose file system has gone.
            Some(libc::SIGBUS) => device_failed,
            _ => false,
        };
        if by_signal || (device_failed && status.code() == Some(i32::from(DEVICE))) {
            return Ok(());
        }
        Err(format!("the child ended by itself ({status}): {words}"))
    }

    /// Waits for its end; returns what it wrote to its output, and what it found or that it was killed.
    pub fn finish(&mut self) -> (String, Result<(), Failure>) {
        let mut output = String::new();
        if let Some(mut pipe) = self.process.stdout.take() {
            let _what_there_is = pipe.read_to_string(&mut output);
        }
        let result = self.end().and_then(|(status, words)| match status.success() {
            true => Ok(()),
            false => Err(format!("{words} ({status})")),
        });
        (output, result)
    }

    /// Its status and its last words.
    fn end(&mut self) -> Result<(ExitStatus, String), Failure> {
        let status = self.process.wait().map_err(|error| format!("wait: {error}"))?;
        let mut words = String::new();
        if let Some(mut pipe) = self.process.stderr.take() {
            let _what_there_is = pipe.read_to_string(&mut words);
        }
        Ok((status, words.trim().to_owned()))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ended_already = self.process.kill();
        let _ended_already = self.process.wait();
    }
}
