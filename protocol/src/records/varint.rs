//! Variable-length numbers as records carry them: zigzag, seven bits a byte, least significant first (protobuf's `sint`).
//! Knows nothing of which field it reads.

use super::RecordFault;

/// Takes a number of at most three bytes off the front of `rest`, zigzag left as it is; `None` for longer ones.
#[inline(always)]
pub(super) fn take_short(rest: &mut &[u8]) -> Option<u32> {
    match **rest {
        [a, ref tail @ ..] if a < 0x80 => {
            *rest = tail;
            Some(u32::from(a))
        }
        [a, b, ref tail @ ..] if b < 0x80 => {
            *rest = tail;
            Some(u32::from(a & 0x7f) | u32::from(b) << 7)
        }
        [a, b, c, ref tail @ ..] if c < 0x80 => {
            *rest = tail;
            Some(u32::from(a & 0x7f) | u32::from(b & 0x7f) << 7 | u32::from(c) << 14)
        }
        _ => None,
    }
}

/// Takes a 32-bit number off the front of `rest`.
pub(super) fn take_i32(rest: &mut &[u8]) -> Result<i32, RecordFault> {
    let raw = u32::try_from(take_raw(rest)?).map_err(|_| RecordFault::Varint)?;
    Ok((raw >> 1) as i32 ^ -((raw & 1) as i32))
}

/// Takes a 64-bit number off the front of `rest`.
pub(super) fn take_i64(rest: &mut &[u8]) -> Result<i64, RecordFault> {
    let raw = take_raw(rest)?;
    Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
}

/// Takes a number of any length off the front of `rest`, zigzag left as it is.
fn take_raw(rest: &mut &[u8]) -> Result<u64, RecordFault> {
    let mut raw = 0u64;
    for (index, byte) in rest.iter().take(10).enumerate() {
        let bits = u64::from(byte & 0x7f);
        if index == 9 && bits > 1 {
            return Err(RecordFault::Varint);
        }
        raw |= bits << (7 * index);
        if *byte < 0x80 {
            *rest = &rest[index + 1..];
            return Ok(raw);
        }
    }
    Err(if rest.len() < 10 { RecordFault::EndsInField } else { RecordFault::Varint })
}

#[inline(always)]
pub(super) const fn zigzag_i32(value: i32) -> u64 {
    ((value << 1) ^ (value >> 31)) as u32 as u64
}

#[inline(always)]
pub(super) const fn zigzag_i64(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Zigzag of a length or count, which is never negative.
#[inline(always)]
pub(super) const fn zigzag_length(length: usize) -> u64 {
    (length as u64) << 1
}

/// Bytes that `raw` (after zigzag) takes.
#[inline(always)]
pub(super) const fn raw_len(raw: u64) -> usize {
    // ceil(bits / 7) without a division; zero still takes a byte.
    ((64 - (raw | 1).leading_zeros()) as usize * 9 + 64) / 64
}

/// Writes `raw` (after zigzag) at `at`, and gives the place after it.
#[inline(always)]
pub(super) fn put(out: &mut [u8], mut at: usize, mut raw: u64) -> usize {
    while raw >= 0x80 {
        out[at] = raw as u8 | 0x80;
        raw >>= 7;
        at += 1;
    }
    out[at] = raw as u8;
    at + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges() -> impl Iterator<Item = i64> {
        (0..64).flat_map(|bit| {
            let power = 1i64 << bit;
            [power.wrapping_sub(1), power, power.wrapping_add(1), power.wrapping_neg(), (!power).wrapping_add(2)]
        })
    }

    #[test]
    fn every_number_reads_back_in_as_many_bytes_as_foretold() {
        for value in edges() {
            let raw = zigzag_i64(value);
            let mut out = [0; 10];
            let end = put(&mut out, 0, raw);
            assert_eq!(end, raw_len(raw), "{value}");
            let mut rest = &out[..end];
            assert_eq!((take_i64(&mut rest), rest.len()), (Ok(value), 0));
            if let Ok(value) = i32::try_from(value) {
                assert_eq!(zigzag_i32(value), raw);
                let mut rest = &out[..end];
                assert_eq!((take_i32(&mut rest), rest.len()), (Ok(value), 0));
            }
        }
    }

    #[test]
    fn the_short_form_agrees_wherever_it_answers() {
        for value in edges() {
            let mut out = [0xff; 10];
            let end = put(&mut out, 0, zigzag_i64(value));
            let mut rest = &out[..];
            match take_short(&mut rest) {
                Some(raw) => assert_eq!((u64::from(raw), rest.len()), (zigzag_i64(value), 10 - end)),
                None => assert!(end > 3, "{value}"),
            }
        }
        assert_eq!(take_short(&mut &[][..]), None);
        assert_eq!(take_short(&mut &[0x80, 0x80][..]), None);
    }

    #[test]
    fn numbers_that_are_cut_or_too_wide_are_refused() {
        assert_eq!(take_i32(&mut &[][..]), Err(RecordFault::EndsInField));
        assert_eq!(take_i32(&mut &[0x80][..]), Err(RecordFault::EndsInField));
        assert_eq!(take_i64(&mut &[0xff; 9][..]), Err(RecordFault::EndsInField));
        assert_eq!(take_i64(&mut &[0xff; 11][..]), Err(RecordFault::Varint));
        assert_eq!(take_i32(&mut &[0xff, 0xff, 0xff, 0xff, 0x1f][..]), Err(RecordFault::Varint));
        assert_eq!(take_i32(&mut &[0xff, 0xff, 0xff, 0xff, 0x0f][..]), Ok(i32::MIN));
    }
}
