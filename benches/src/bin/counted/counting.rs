//! glibc's allocator, with everything counted that is asked of it: by Rust through the global
//! allocator, and by C through `malloc` and its kin, which this program defines in glibc's place.
//! glibc's manual describes that ("Replacing malloc"): what the program defines is what everything
//! linked into it calls. Rust's own way leads past those definitions, so nothing is counted twice.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, Ordering};

static BY_RUST: AtomicU64 = AtomicU64::new(0);
static BY_C: AtomicU64 = AtomicU64::new(0);

/// What glibc's blocks are aligned to on a 64-bit machine, whatever was asked for.
const ALIGNED_BYTES: usize = 16;

/// How often Rust and C have asked for a block so far. One that grows was asked for again.
pub fn counts() -> (u64, u64) {
    (
        BY_RUST.load(Ordering::Relaxed),
        BY_C.load(Ordering::Relaxed),
    )
}

unsafe extern "C" {
    fn __libc_malloc(bytes: usize) -> *mut c_void;
    fn __libc_calloc(count: usize, bytes: usize) -> *mut c_void;
    fn __libc_realloc(block: *mut c_void, bytes: usize) -> *mut c_void;
    fn __libc_memalign(aligned_bytes: usize, bytes: usize) -> *mut c_void;
    fn __libc_free(block: *mut c_void);
}

/// Rust's allocator.
pub struct Counting;

// SAFETY: every block is one of glibc's, of the size asked for, and aligned as asked for: where
// that is more than glibc aligns every block to, by `memalign`. Each of glibc's functions gives null
// where it has no memory, as this trait has it, and `free` takes the blocks of all of them. Counting
// touches no block and does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BY_RUST.fetch_add(1, Ordering::Relaxed);
        // SAFETY: glibc's functions take any size; the alignment is a power of two.
        let block = unsafe {
            match layout.align() <= ALIGNED_BYTES {
                true => __libc_malloc(layout.size()),
                false => __libc_memalign(layout.align(), layout.size()),
            }
        };
        block.cast()
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.align() <= ALIGNED_BYTES {
            BY_RUST.fetch_add(1, Ordering::Relaxed);
            // SAFETY: glibc's function takes any size.
            return unsafe { __libc_calloc(1, layout.size()) }.cast();
        }
        // SAFETY: the caller's promises are those of `alloc`.
        let block = unsafe { self.alloc(layout) };
        if !block.is_null() {
            // SAFETY: the block is new, and of this size.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        if layout.align() <= ALIGNED_BYTES {
            BY_RUST.fetch_add(1, Ordering::Relaxed);
            // SAFETY: the block is one of glibc's, since the caller has it from here.
            return unsafe { __libc_realloc(block.cast(), bytes) }.cast();
        }
        // SAFETY: the caller promises that the new size, with this alignment, is a valid layout.
        let grown = unsafe { Layout::from_size_align_unchecked(bytes, layout.align()) };
        // SAFETY: it is not of size 0, by the same promise.
        let new = unsafe { self.alloc(grown) };
        if !new.is_null() {
            // SAFETY: both blocks hold as many bytes as are copied, and the new one is no part of
            // the old one, which is freed once.
            unsafe {
                new.copy_from_nonoverlapping(block, layout.size().min(bytes));
                self.dealloc(block, layout);
            }
        }
        new
    }

    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        // SAFETY: the block is one of glibc's, since the caller has it from here.
        unsafe { __libc_free(block.cast()) }
    }
}

/// C's `malloc`.
///
/// # Safety
/// As C has it: none is needed.
// SAFETY: the name is that of glibc's function, and so are the parameters and what it does.
#[unsafe(no_mangle)]
unsafe extern "C" fn malloc(bytes: usize) -> *mut c_void {
    BY_C.fetch_add(1, Ordering::Relaxed);
    // SAFETY: glibc's function takes any size.
    unsafe { __libc_malloc(bytes) }
}

/// C's `calloc`.
///
/// # Safety
/// As C has it: none is needed.
// SAFETY: as for `malloc`.
#[unsafe(no_mangle)]
unsafe extern "C" fn calloc(count: usize, bytes: usize) -> *mut c_void {
    BY_C.fetch_add(1, Ordering::Relaxed);
    // SAFETY: glibc's function takes any size, and checks the product.
    unsafe { __libc_calloc(count, bytes) }
}

/// C's `realloc`.
///
/// # Safety
/// As C has it: the block is null, or one that was not freed.
// SAFETY: as for `malloc`.
#[unsafe(no_mangle)]
unsafe extern "C" fn realloc(block: *mut c_void, bytes: usize) -> *mut c_void {
    BY_C.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the caller's promise; blocks of every function here are glibc's.
    unsafe { __libc_realloc(block, bytes) }
}
