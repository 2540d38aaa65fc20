/* Allocations that fail when a test wants them to: the program's own malloc and its relatives, and with them what C++
 * and the C library allocate. Under a sanitizer, which needs malloc for itself, C++'s operator new alone. */
#ifndef GLIMPSE_TESTS_CAPI_ALLOCATION_FAULTS_H_
#define GLIMPSE_TESTS_CAPI_ALLOCATION_FAULTS_H_

#ifdef __cplusplus
extern "C" {
#endif

/* From now on allocations are counted, those of other threads too; number `first` (from 1) fails, and all after it when
 * `sticky`. first 0: none. */
void arm_allocation_faults(long first, int sticky);
/* No more failures; the number of allocations since they were armed. */
long disarm_allocation_faults(void);

#ifdef __cplusplus
}
#endif

#endif /* GLIMPSE_TESTS_CAPI_ALLOCATION_FAULTS_H_ */
