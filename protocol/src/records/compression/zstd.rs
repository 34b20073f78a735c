//! Zstandard (RFC 8878), several frames allowed. Knows nothing of batches.

use core::cell::RefCell;

use zstd::bulk::Compressor;
use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, ResetDirective, get_frame_content_size};

use super::Failure;

/// The largest window that a frame may ask for: 128 MiB, which level 22 does. Memory of the window is touched only as far as
/// output fills it, so the cap on the output bounds it too.
const WINDOW_LOG_MAX: u32 = 27;
/// What a thread keeps of a decompression context; a larger one goes when it has done its work.
const KEPT_CONTEXT_BYTES: usize = 1 << 20;
/// The first guess at the output of a frame that does not tell its size, and at the least growth.
const GROWTH_BYTES: usize = 64 << 10;

thread_local! {
    /// A new context costs more than a small batch.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };
}

pub(super) fn decompress(input: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<(), Failure> {
    DECOMPRESSOR.with_borrow_mut(|kept| {
        let context = match kept {
            Some(context) => context,
            None => {
                let mut context = DCtx::create();
                context.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX)).map_err(|_| Failure::Corrupt)?;
                kept.insert(context)
            }
        };
        let result = run(context, input, out, limit);
        if context.sizeof() > KEPT_CONTEXT_BYTES {
            *kept = None;
        }
        result
    })
}

fn run(context: &mut DCtx<'_>, input: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<(), Failure> {
    context.reset(ResetDirective::SessionOnly).map_err(|_| Failure::Corrupt)?;
    // Room for all of it lets the decoder write straight into `out`, without a window of its own.
    if let Ok(Some(claimed)) = get_frame_content_size(input) {
        let claimed = usize::try_from(claimed).unwrap_or(usize::MAX);
        if claimed > limit {
            return Err(Failure::TooLarge);
        }
        out.reserve(claimed);
    }
    let mut source = InBuffer::around(input);
    loop {
        if out.len() == out.capacity() {
            // One byte more than the limit tells "just fits" from "too much".
            let growth = out.len().max(GROWTH_BYTES).min(limit.saturating_add(1) - out.len());
            out.reserve_exact(growth);
        }
        let (from, read) = (out.len(), source.pos());
        let mut sink = OutBuffer::around_pos(out, from);
        let hint = context.decompress_stream(&mut sink, &mut source).map_err(|_| Failure::Corrupt)?;
        let written = sink.pos() - from;
        if out.len() > limit {
            return Err(Failure::TooLarge);
        }
        let exhausted = source.pos() == input.len();
        if hint == 0 && exhausted {
            return Ok(());
        }
        // Input is used up inside a frame, or neither side moves though there is room.
        let room_left = out.len() < out.capacity();
        if room_left && (exhausted || (written == 0 && source.pos() == read)) {
            return Err(Failure::Corrupt);
        }
    }
}

pub(super) fn compress(input: &[u8], out: &mut Vec<u8>) {
    COMPRESSOR.with_borrow_mut(|kept| {
        #[expect(clippy::expect_used, reason = "fails where memory ends or the room is too small, and it is not")]
        {
            let compressor = kept.get_or_insert_with(|| {
                Compressor::new(zstd::DEFAULT_COMPRESSION_LEVEL).expect("the default level is valid")
            });
            let start = out.len();
            out.resize(start + zstd::compress_bound(input.len()), 0);
            let bytes = compressor.compress_to_buffer(input, &mut out[start..]).expect("the bound is enough");
            out.truncate(start + bytes);
        }
    });
}
