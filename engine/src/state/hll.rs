//! Merging HLL sketches by their images, in the layout that the DataSketches libraries share: a few hashes
//! (coupons) while there are few values, a byte per register from then on. Merging registers here is one
//! pass of byte-wise maxima; the library would rebuild its estimator with every merge.
//!
//! The image written is the library's own (8-bit registers), and the estimate is always the library's.

use datasketches::hll::{HllSketch, HllType, HllUnion};

use crate::error::{Error, Result};

/// log2 of the number of registers.
pub(super) const LG_K: u8 = 12;
const REGISTERS: usize = 1 << LG_K;
/// More coupons than this become registers, as in the library.
const COUPONS_MAX: usize = 384;
/// Coupons from this number on are laid out as a set.
const LIST_SIZE: usize = 8;
const COUPON_SLOT_BITS: u32 = 26;

const FAMILY: u8 = 7;
const VERSION: u8 = 1;
const COMPACT: u8 = 8;
const OUT_OF_ORDER: u8 = 16;
const LIST_PREAMBLE: usize = 8;
const SET_PREAMBLE: usize = 12;
const REGISTER_PREAMBLE: usize = 40;
/// Mode byte: the layout in the low two bits, 8-bit registers (2) in the next two.
const LIST: u8 = 2 << 2;
const SET: u8 = 1 | 2 << 2;
const DENSE: u8 = 2 | 2 << 2;

/// The union of images.
#[derive(Debug, Clone)]
pub(super) enum Merged {
    /// Ascending, without duplicates.
    Coupons(Vec<u32>),
    /// One value per register.
    Registers(Box<[u8]>),
}

/// What an image holds.
enum Content<'a> {
    Coupons(&'a [u8]),
    Registers(&'a [u8]),
}

pub(super) fn failed(e: datasketches::error::Error) -> Error {
    Error::corrupt("a distinct-count sketch cannot be read").with_source(e)
}

impl Merged {
    /// The content of one image.
    pub(super) fn read(image: &[u8]) -> Result<Self> {
        let mut merged = Self::Coupons(Vec::new());
        merged.absorb(image)?;
        Ok(merged)
    }

    /// Adds the content of an image.
    pub(super) fn absorb(&mut self, image: &[u8]) -> Result<()> {
        match parse(image) {
            Some(content) => self.absorb_content(content),
            None => {
                let own = rewrite(image)?;
                let content = parse(&own).ok_or_else(|| {
                    Error::corrupt("a distinct-count sketch has an unknown layout")
                })?;
                self.absorb_content(content);
            }
        }
        Ok(())
    }

    fn absorb_content(&mut self, content: Content<'_>) {
        match (&mut *self, content) {
            (Self::Registers(kept), Content::Registers(other)) => {
                for (kept, other) in kept.iter_mut().zip(other) {
                    *kept = (*kept).max(*other);
                }
            }
            (Self::Registers(kept), Content::Coupons(other)) => {
                coupons(other).for_each(|coupon| raise(kept, coupon));
            }
            (Self::Coupons(kept), Content::Registers(other)) => {
                let mut registers: Box<[u8]> = other.into();
                kept.iter().for_each(|coupon| raise(&mut registers, *coupon));
                *self = Self::Registers(registers);
            }
            (Self::Coupons(kept), Content::Coupons(other)) => {
                let mut other: Vec<u32> = coupons(other).collect();
                if !other.is_sorted() {
                    other.sort_unstable();
                }
                *kept = union(kept, &other);
                self.settle();
            }
        }
    }

    /// Too many coupons become registers.
    fn settle(&mut self) {
        if let Self::Coupons(kept) = self
            && kept.len() > COUPONS_MAX
        {
            let mut registers = vec![0; REGISTERS].into_boxed_slice();
            kept.iter().for_each(|coupon| raise(&mut registers, *coupon));
            *self = Self::Registers(registers);
        }
    }

    /// The image of the union.
    pub(super) fn image(&self) -> Vec<u8> {
        match self {
            Self::Coupons(kept) => coupon_image(kept),
            Self::Registers(registers) => register_image(registers),
        }
    }

    /// The library's sketch of the union.
    pub(super) fn sketch(&self) -> Result<HllSketch> {
        HllSketch::deserialize(&self.image()).map_err(failed)
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::Coupons(kept) => kept.capacity() * size_of::<u32>(),
            Self::Registers(registers) => registers.len(),
        }
    }
}

/// The content of an image in the layout that Otus writes; none for any other.
fn parse(image: &[u8]) -> Option<Content<'_>> {
    let head = image.first_chunk::<LIST_PREAMBLE>()?;
    let [_, version, family, lg_k, _, flags, count, mode] = *head;
    if (version, family, lg_k) != (VERSION, FAMILY, LG_K) {
        return None;
    }
    let compact = flags & COMPACT != 0;
    match mode {
        LIST if compact => {
            let coupons = image.get(LIST_PREAMBLE..)?;
            (coupons.len() == usize::from(count) * size_of::<u32>())
                .then_some(Content::Coupons(coupons))
        }
        SET if compact => {
            let count = u32::from_le_bytes(*image.get(LIST_PREAMBLE..)?.first_chunk()?);
            let coupons = image.get(SET_PREAMBLE..)?;
            (coupons.len() == usize::try_from(count).ok()? * size_of::<u32>())
                .then_some(Content::Coupons(coupons))
        }
        DENSE => {
            let registers = image.get(REGISTER_PREAMBLE..)?;
            (registers.len() == REGISTERS).then_some(Content::Registers(registers))
        }
        _ => None,
    }
}

/// An image of any other layout (other width, size or library) in ours.
fn rewrite(image: &[u8]) -> Result<Vec<u8>> {
    let sketch = HllSketch::deserialize(image).map_err(failed)?;
    let mut union = HllUnion::new(LG_K).map_err(failed)?;
    union.update(&sketch);
    Ok(union.to_sketch(HllType::Hll8).serialize())
}

fn coupons(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes.as_chunks::<4>().0.iter().map(|chunk| u32::from_le_bytes(*chunk))
}

fn raise(registers: &mut [u8], coupon: u32) {
    let slot = coupon as usize & (REGISTERS - 1);
    let [.., top] = coupon.to_le_bytes();
    registers[slot] = registers[slot].max(top >> (COUPON_SLOT_BITS - 24));
}

/// The union of two ascending lists.
fn union(left: &[u32], right: &[u32]) -> Vec<u32> {
    let mut all = Vec::with_capacity(left.len() + right.len());
    let (mut a, mut b) = (0, 0);
    while a < left.len() && b < right.len() {
        let least = left[a].min(right[b]);
        a += usize::from(left[a] == least);
        b += usize::from(right[b] == least);
        all.push(least);
    }
    all.extend_from_slice(&left[a..]);
    all.extend_from_slice(&right[b..]);
    all
}

fn coupon_image(kept: &[u32]) -> Vec<u8> {
    let mut image = Vec::with_capacity(SET_PREAMBLE + size_of_val(kept));
    let [count, high, ..] = kept.len().to_le_bytes();
    if kept.len() < LIST_SIZE {
        let lg_size = 3;
        image.extend_from_slice(&[2, VERSION, FAMILY, LG_K, lg_size, COMPACT, count, LIST]);
    } else {
        // The least table of 32 or more that is at most three quarters full.
        let lg_size = (5..LG_K - 3).find(|lg| 4 * kept.len() <= 3 << lg).unwrap_or(LG_K - 3);
        image.extend_from_slice(&[3, VERSION, FAMILY, LG_K, lg_size, COMPACT, 0, SET]);
        image.extend_from_slice(&[count, high, 0, 0]);
    }
    kept.iter().for_each(|coupon| image.extend_from_slice(&coupon.to_le_bytes()));
    image
}

fn register_image(registers: &[u8]) -> Vec<u8> {
    // Sums of 2^-value, apart for great and small ones: both are exact in a double.
    let (mut great, mut small, mut zeros) = (0.0_f64, 0.0_f64, 0_u32);
    for value in registers {
        zeros += u32::from(*value == 0);
        let share = (-f64::from(*value)).exp2();
        if *value < 32 { great += share } else { small += share }
    }
    let mut image = Vec::with_capacity(REGISTER_PREAMBLE + REGISTERS);
    image.extend_from_slice(&[10, VERSION, FAMILY, LG_K, 0, OUT_OF_ORDER, 0, DENSE]);
    image.extend_from_slice(&0.0_f64.to_le_bytes());
    image.extend_from_slice(&great.to_le_bytes());
    image.extend_from_slice(&small.to_le_bytes());
    image.extend_from_slice(&zeros.to_le_bytes());
    image.extend_from_slice(&[0; 4]);
    image.extend_from_slice(registers);
    image
}
