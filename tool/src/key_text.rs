//! Keys and values as text, and back: what is not printable ASCII is written \xNN.

use std::fmt::Write;

/// A key from the command line. (A plain `Vec<u8>` would be taken by clap for several values.)
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Key(pub(crate) Vec<u8>);

/// Printable text; [`parse`] gives the bytes back.
pub(crate) fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'\\' => text.push_str("\\\\"),
            b' '..=b'~' => text.push(char::from(byte)),
            // Writing to a string cannot fail.
            _ => drop(write!(text, "\\x{byte:02x}")),
        }
    }
    text
}

/// As [`escape`], cut where it would spoil a line.
pub(crate) fn escape_short(bytes: &[u8]) -> String {
    const SHOWN_MAX: usize = 32;
    match bytes.get(..SHOWN_MAX) {
        Some(shown) if bytes.len() > SHOWN_MAX => format!("{}...", escape(shown)),
        _ => escape(bytes),
    }
}

/// Hexadecimal digits.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The bytes that a text from the command line stands for.
pub(crate) fn parse(text: &str) -> Result<Key, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let (escaped, used) = match after {
            [b'\\', ..] => (Some(b'\\'), 1),
            [b'n', ..] => (Some(b'\n'), 1),
            [b't', ..] => (Some(b'\t'), 1),
            [b'r', ..] => (Some(b'\r'), 1),
            [b'x', digits @ ..] => (digits.get(..2).and_then(byte_of), 3),
            _ => (None, 0),
        };
        let wrong = || {
            let at = text.len() - after.len() - 1;
            format!("the backslash at byte {at} begins none of \\xNN, \\n, \\r, \\t and \\\\")
        };
        bytes.push(escaped.ok_or_else(wrong)?);
        rest = &after[used..];
    }
    Ok(Key(bytes))
}

fn byte_of(digits: &[u8]) -> Option<u8> {
    // `from_str_radix` takes a sign, too.
    let text = std::str::from_utf8(digits).ok()?;
    let is_hexadecimal = digits.iter().all(u8::is_ascii_hexdigit);
    u8::from_str_radix(text, 16).ok().filter(|_| is_hexadecimal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_that_is_printed_can_be_given_back() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(parse(&escape(&all)), Ok(Key(all)));
        assert_eq!(escape(b"a\\b\0\xff"), "a\\\\b\\x00\\xff");
        assert_eq!(parse("caf\u{e9}\\n"), Ok(Key("caf\u{e9}\n".into())));
        for wrong in ["\\", "\\x", "\\x4", "\\x+4", "\\q"] {
            assert!(parse(wrong).is_err_and(|why| why.contains("byte 0")), "{wrong}");
        }
    }
}
