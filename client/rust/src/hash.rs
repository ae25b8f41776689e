use std::fmt;
use std::str::FromStr;

use crate::error::{Code, Error};
use crate::sys;

/// The name of a cap: its CapHash.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    pub(crate) fn as_c(&self) -> *const sys::capstore_hash {
        // One array of 32 bytes, as the C structure.
        (self as *const Hash).cast()
    }

    pub(crate) fn of(hash: &sys::capstore_hash) -> Hash {
        Hash(hash.bytes)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

impl FromStr for Hash {
    type Err = Error;

    /// 64 hex digits of either case, with an optional `0x` in front.
    fn from_str(text: &str) -> Result<Hash, Error> {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        let wrong = || Error {
            message: "not a hash: expected 64 hex digits".into(),
            ..Error::bare(Code::InvalidArgument)
        };
        if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let mut hash = Hash([0; 32]);
        for (byte, pair) in hash.0.iter_mut().zip(digits.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
        }
        Ok(hash)
    }
}
