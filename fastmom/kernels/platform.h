/* What differs between machines and compilers: OpenMP, CPU features, subnormals, fork. */
#ifndef FASTMOM_PLATFORM_H
#define FASTMOM_PLATFORM_H

#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* dladdr */
#endif

#ifdef _OPENMP
#include <omp.h>
#define FM_OPENMP _OPENMP
#else
#define FM_OPENMP 0
static inline int omp_get_max_threads(void) { return 1; }
static inline int omp_get_num_procs(void) { return 1; }
static inline int omp_get_thread_limit(void) { return 1; }
static inline double omp_get_wtime(void) { return 0; }
#endif

/* CPUs this thread may run on. Not every OpenMP runtime looks again after its start; but where it
   binds threads to places, only it knows. */
#if FM_OPENMP && defined(__linux__)
#include <sched.h>
static inline int fm_cpus(void) {
    cpu_set_t set;
    if (omp_get_proc_bind() == omp_proc_bind_false && sched_getaffinity(0, sizeof set, &set) == 0)
        return CPU_COUNT(&set);
    return omp_get_num_procs();
}
#else
static inline int fm_cpus(void) { return omp_get_num_procs(); }
#endif

/* Path of the OpenMP runtime in use, or "". */
#if FM_OPENMP && !defined(_WIN32)
#include <dlfcn.h>
static inline const char *fm_openmp_library(void) {
    Dl_info info;
    return dladdr((void *)omp_get_max_threads, &info) && info.dli_fname ? info.dli_fname : "";
}
#else
static inline const char *fm_openmp_library(void) { return ""; }
#endif

/* Ask for the cache line of an address that may not be read yet. Without the empty statement GCC
   takes a function that does nothing else for one without effect, and leaves out its calls. */
#if defined(__GNUC__) || defined(__clang__)
static inline void fm_prefetch(const char *address) {
    __builtin_prefetch(address, 1);
    __asm__ volatile("");
}
#else
static inline void fm_prefetch(const char *address) { (void)address; }
#endif

/* Flush-to-zero and denormals-are-zero for the calling thread; returns the mode to restore. */
#if defined(__SSE2__) || defined(_M_X64)
#include <xmmintrin.h>
#define FM_FLUSH "x86 MXCSR"
typedef unsigned int fm_float_mode;
static inline fm_float_mode fm_flush_begin(void) {
    fm_float_mode old = _mm_getcsr();
    _mm_setcsr(old | 0x8040u);
    return old;
}
static inline void fm_flush_end(fm_float_mode old) { _mm_setcsr(old); }
#elif defined(__aarch64__) && (defined(__GNUC__) || defined(__clang__))
#define FM_FLUSH "AArch64 FPCR"
typedef unsigned long long fm_float_mode;
static inline fm_float_mode fm_flush_begin(void) {
    fm_float_mode old;
    __asm__ volatile("mrs %0, fpcr" : "=r"(old));
    __asm__ volatile("msr fpcr, %0" : : "r"(old | (1ull << 24)));
    return old;
}
static inline void fm_flush_end(fm_float_mode old) { __asm__ volatile("msr fpcr, %0" : : "r"(old)); }
#else
#define FM_FLUSH ""
typedef int fm_float_mode;
static inline fm_float_mode fm_flush_begin(void) { return 0; }
static inline void fm_flush_end(fm_float_mode old) { (void)old; }
#endif

/* CPU and operating system both support the instructions of a build (see ISA in setup.py). */
#if (defined(__x86_64__) || defined(__i386__)) && (defined(__GNUC__) || defined(__clang__))
static inline int fm_has_avx2(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
static inline int fm_has_avx512(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
}
#elif defined(_M_X64)
#include <immintrin.h>
#include <intrin.h>
static inline int fm_has(int ebx_bits, unsigned long long xcr0_bits) {
    int r[4];
    __cpuid(r, 0);
    if (r[0] < 7) return 0;
    __cpuidex(r, 1, 0);
    if (!(r[2] & (1 << 27)) || !(r[2] & (1 << 12))) return 0; /* OSXSAVE, FMA */
    if ((_xgetbv(0) & xcr0_bits) != xcr0_bits) return 0;
    __cpuidex(r, 7, 0);
    return (r[1] & ebx_bits) == ebx_bits;
}
static inline int fm_has_avx2(void) { return fm_has(1 << 5, 0x6); }
static inline int fm_has_avx512(void) {
    return fm_has((1 << 5) | (1 << 16) | (1 << 17) | (1 << 30) | (int)(1u << 31), 0xe6);
}
#else
static inline int fm_has_avx2(void) { return 0; }
static inline int fm_has_avx512(void) { return 0; }
#endif

/* A forked child inherits the pool's bookkeeping but none of its threads. */
#ifdef _WIN32
static inline int fm_on_fork(void (*child)(void)) { (void)child; return 0; }
#else
#include <pthread.h>
static inline int fm_on_fork(void (*child)(void)) { return pthread_atfork(0, 0, child); }
#endif

#endif
