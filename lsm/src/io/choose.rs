//! Picks the body of the I/O door for real files.

use super::Disk;
use super::posix::PosixDisk;
use super::uring::UringDisk;
use crate::base::error::{Error, Result};
use crate::base::options::IoChoice;
use std::env::VarError;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Overrides [`IoChoice::Auto`].
const VARIABLE: &str = "TREERING_IO";

/// The disk for `choice`, and a word for the log and the stats: which one it is, and why if it is not the first choice.
///
/// # Errors
/// [`Error::InvalidOption`] if the environment variable `TREERING_IO` is neither `posix` nor `uring`; [`Error::Io`] if io_uring was
/// asked for by name and is refused. Without either, `Auto` always gives a disk.
pub fn choose(choice: IoChoice) -> Result<(Arc<dyn Disk>, String)> {
    match effective(choice, std::env::var(VARIABLE))? {
        IoChoice::Posix => Ok((Arc::new(PosixDisk::new()), "posix".to_owned())),
        IoChoice::Uring => match UringDisk::probe() {
            Ok(disk) => Ok((Arc::new(disk), "uring".to_owned())),
            Err(error) => Err(Error::io("probe", Path::new("io_uring"), error)),
        },
        IoChoice::Auto => Ok(match UringDisk::probe() {
            Ok(disk) => (Arc::new(disk), "uring".to_owned()),
            Err(error) => {
                let why = format!("posix: io_uring refused ({})", errno_name(&error));
                (Arc::new(PosixDisk::new()), why)
            }
        }),
    }
}

/// The choice after the environment had its say.
fn effective(
    choice: IoChoice,
    variable: std::result::Result<String, VarError>,
) -> Result<IoChoice> {
    if choice != IoChoice::Auto {
        return Ok(choice);
    }
    let value = match variable {
        Ok(value) => value,
        Err(VarError::NotPresent) => return Ok(choice),
        Err(VarError::NotUnicode(value)) => value.to_string_lossy().into_owned(),
    };
    match value.as_str() {
        "posix" => Ok(IoChoice::Posix),
        "uring" => Ok(IoChoice::Uring),
        _ => Err(Error::invalid_option(
            VARIABLE,
            format!("{value:?} given in the environment, \"posix\" or \"uring\" possible"),
        )),
    }
}

/// The name of the errors that io_uring is refused with.
fn errno_name(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM) => "EPERM".to_owned(),
        Some(libc::EACCES) => "EACCES".to_owned(),
        Some(libc::ENOSYS) => "ENOSYS".to_owned(),
        Some(libc::ENOMEM) => "ENOMEM".to_owned(),
        Some(libc::EINVAL) => "EINVAL".to_owned(),
        Some(libc::EMFILE) => "EMFILE".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_overrides_auto_only_and_a_wrong_value_is_an_error() {
        let set = |value: &str| Ok(value.to_owned());
        assert_eq!(effective(IoChoice::Auto, set("posix")).unwrap(), IoChoice::Posix);
        assert_eq!(effective(IoChoice::Auto, set("uring")).unwrap(), IoChoice::Uring);
        assert_eq!(effective(IoChoice::Uring, set("posix")).unwrap(), IoChoice::Uring);
        assert_eq!(effective(IoChoice::Auto, Err(VarError::NotPresent)).unwrap(), IoChoice::Auto);
        for wrong in ["", "Posix", "io_uring"] {
            let error = effective(IoChoice::Auto, set(wrong)).unwrap_err();
            assert!(matches!(error, Error::InvalidOption { option: VARIABLE, .. }), "{error}");
        }
    }

    #[test]
    fn posix_is_always_there() {
        let (disk, why) = choose(IoChoice::Posix).unwrap();
        assert_eq!((disk.name(), why.as_str()), ("posix", "posix"));
    }
}
