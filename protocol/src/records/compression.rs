//! The codecs of record batches and the cap on what they give back. Knows nothing of batches.
//!
//! A few kilobytes can decompress to gigabytes, so every codec stops at the limit it is given. Without the feature
//! `compression` the codecs keep their names and codes, and say that they are not there.

#[cfg(feature = "compression")]
mod gzip;
#[cfg(feature = "compression")]
mod lz4;
#[cfg(feature = "compression")]
mod snappy;
#[cfg(feature = "compression")]
mod zstd;

/// How the records of a batch are compressed; the header itself never is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
pub enum Compression {
    /// As they are.
    #[default]
    None = 0,
    /// RFC 1952.
    Gzip = 1,
    /// Snappy blocks in the framing of the Java library ("xerial").
    Snappy = 2,
    /// The LZ4 frame format.
    Lz4 = 3,
    /// RFC 8878 (KIP-110).
    Zstd = 4,
}

impl Compression {
    /// Every codec, in the order of the codes.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec of this code in the attributes of a batch; `None` for one that is not assigned.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::None),
            1 => Some(Self::Gzip),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Its code in the attributes of a batch.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Its name in configs and on command lines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

impl core::fmt::Display for Compression {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

impl core::str::FromStr for Compression {
    type Err = UnknownCompression;

    fn from_str(name: &str) -> Result<Self, UnknownCompression> {
        Self::ALL.into_iter().find(|codec| codec.name() == name).ok_or(UnknownCompression)
    }
}

/// The text names no codec.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("unknown compression; known are none, gzip, snappy, lz4 and zstd")]
pub struct UnknownCompression;

/// Why compressed bytes gave nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecompressError {
    /// They are more than the limit allows, or claim to be.
    #[error("the records decompress to more than the limit of {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// They are not what the codec writes, end early, or go on after the end.
    #[error("the compressed records are damaged: they are not a whole {codec} stream")]
    Corrupt {
        /// The codec that read them.
        codec: Compression,
    },
    /// The codec was left out of this program.
    #[error("this program was built without {codec} compression")]
    Unavailable {
        /// The codec that is missing.
        codec: Compression,
    },
}

/// The codec was left out of this program.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("this program was built without {codec} compression")]
pub struct CodecUnavailable {
    /// The codec that is missing.
    pub codec: Compression,
}

/// Replaces `out` by what `input` decompresses to, at most `limit` bytes.
///
/// # Errors
/// [`DecompressError`]; what stands in `out` is then of no use. Memory stays near `limit` whatever `input` claims.
pub fn decompress(codec: Compression, input: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<(), DecompressError> {
    out.clear();
    #[cfg(feature = "compression")]
    let failure = match codec {
        Compression::None => stored(input, out, limit),
        Compression::Gzip => gzip::decompress(input, out, limit),
        Compression::Snappy => snappy::decompress(input, out, limit),
        Compression::Lz4 => lz4::decompress(input, out, limit),
        Compression::Zstd => zstd::decompress(input, out, limit),
    };
    #[cfg(not(feature = "compression"))]
    let failure = match codec {
        Compression::None => stored(input, out, limit),
        codec => return Err(DecompressError::Unavailable { codec }),
    };
    failure.map_err(|failure| match failure {
        Failure::TooLarge => DecompressError::TooLarge { limit },
        #[cfg(feature = "compression")]
        Failure::Corrupt => DecompressError::Corrupt { codec },
    })
}

/// Appends `input`, compressed at the codec's usual level, to `out`.
///
/// # Errors
/// [`CodecUnavailable`]; `out` is then unchanged.
pub fn compress(codec: Compression, input: &[u8], out: &mut Vec<u8>) -> Result<(), CodecUnavailable> {
    #[cfg(feature = "compression")]
    match codec {
        Compression::None => out.extend_from_slice(input),
        Compression::Gzip => gzip::compress(input, out),
        Compression::Snappy => snappy::compress(input, out),
        Compression::Lz4 => lz4::compress(input, out),
        Compression::Zstd => zstd::compress(input, out),
    }
    #[cfg(not(feature = "compression"))]
    match codec {
        Compression::None => out.extend_from_slice(input),
        codec => return Err(CodecUnavailable { codec }),
    }
    Ok(())
}

/// What every codec can say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Failure {
    TooLarge,
    #[cfg(feature = "compression")]
    Corrupt,
}

fn stored(input: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<(), Failure> {
    if input.len() > limit {
        return Err(Failure::TooLarge);
    }
    out.extend_from_slice(input);
    Ok(())
}
