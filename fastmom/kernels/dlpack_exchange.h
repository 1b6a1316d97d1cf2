/* The part of DLPack 1 that tensors.pyx reads (dmlc/dlpack, include/dlpack/dlpack.h): how a library
 * shows where its tensors lie. The major version stands for the layout of these structs. */
#include <stdint.h>

typedef struct {
    char* data;
    int32_t device_type, device_id;
    int32_t ndim;
    uint8_t code, bits;         /* of the dtype */
    uint16_t lanes;
    int64_t* shape;
    int64_t* strides;           /* in elements */
    uint64_t byte_offset;
} DLTensor;

typedef struct {
    uint32_t major, minor;      /* of the version */
    void* older;
    int (*allocate)(void);      /* unused here, as are the next two and the last */
    int (*managed_from_object)(void);
    int (*managed_to_object)(void);
    int (*tensor_of)(void* tensor, DLTensor* out);
    int (*stream)(void);
} DLPackExchangeAPI;
