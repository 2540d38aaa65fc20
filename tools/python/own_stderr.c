/* A `stderr` of the library's own, with libc's value.
 *
 * Debian compiles its static archives for programs (-fPIE): libjpeg and libpng address libc's `stderr` as if it were in
 * the same file, which a shared library's linker refuses. They would write there only from error handlers that glimpse
 * replaces. The symbol is local to the library.
 */
extern void* libc_stderr;
__asm__(".symver libc_stderr, stderr@GLIBC_2.2.5");

extern void* own_stderr __asm__("stderr");
__attribute__((visibility("hidden"))) void* own_stderr;

/* Before the constructors of C++, whose streams look at it. */
__attribute__((constructor(101))) static void take_stderr(void) {
  own_stderr = libc_stderr;
}
