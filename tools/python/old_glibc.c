/* What GCC's run-time library asks of a C library newer than the one that the package's shared library is linked with
 * (GLIMPSE_GLIBC_ROOT): Debian 12's libstdc++.a and libgcc_eh.a are compiled against glibc 2.36, Debian 11 has 2.31.
 * Any other newer symbol is an error of the linker. All of it is local to the library.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/random.h>

#define LOCAL __attribute__((visibility("hidden")))

/* Of glibc 2.32. Shared pointers count without atomic instructions while it is not 0. */
LOCAL extern char __libc_single_threaded;
char __libc_single_threaded = 0;

/* Of glibc 2.35, for the unwinder: which loaded object holds an address, and where its table of frames is. */
struct search {
  uintptr_t address;
  struct dl_find_object* result;
};

static int look_at(struct dl_phdr_info* object, size_t size, void* data) {
  struct search* search = data;
  uintptr_t start = 0, end = 0;
  void* frames = NULL;
  (void)size;
  for (int i = 0; i < object->dlpi_phnum; ++i) {
    const ElfW(Phdr)* segment = &object->dlpi_phdr[i];
    const uintptr_t from = object->dlpi_addr + segment->p_vaddr;
    if (segment->p_type == PT_GNU_EH_FRAME) frames = (void*)from;
    if (segment->p_type != PT_LOAD || search->address < from || search->address - from >= segment->p_memsz) continue;
    start = from;
    end = from + segment->p_memsz;
  }
  if (end == 0) return 0;
  if (frames == NULL) return -1;
  search->result->dlfo_flags = 0;
  search->result->dlfo_map_start = (void*)start;
  search->result->dlfo_map_end = (void*)end;
  search->result->dlfo_link_map = NULL; /* the unwinder does not ask */
  search->result->dlfo_eh_frame = frames;
  return 1;
}

LOCAL int _dl_find_object(void* address, struct dl_find_object* result);
int _dl_find_object(void* address, struct dl_find_object* result) {
  struct search search = {(uintptr_t)address, result};
  return dl_iterate_phdr(look_at, &search) == 1 ? 0 : -1;
}

/* Of glibc 2.36, for std::random_device. */
LOCAL uint32_t arc4random(void);
uint32_t arc4random(void) {
  uint32_t value = 0;
  if (getrandom(&value, sizeof value, 0) == (ssize_t)sizeof value) return value;
  FILE* const device = fopen("/dev/urandom", "rb"); /* a kernel or a sandbox without the call */
  if (device == NULL) return value;
  const size_t n = fread(&value, sizeof value, 1, device);
  fclose(device);
  return n == 1 ? value : 0;
}
