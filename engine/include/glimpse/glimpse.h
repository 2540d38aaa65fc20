/* glimpse: Qwen2-VL inference from GGUF files.
 *
 * C99. All objects are opaque handles. Free what you create; freeing NULL is allowed. A session keeps its model alive.
 *
 * Errors: every call that can fail returns a glimpse_status; glimpse_last_error() then gives the message for this
 * thread, in words a user can act on. The library never aborts, exits, prints, or throws through this interface, also
 * where memory runs out at any point: the call then fails with GLIMPSE_ERROR_OUT_OF_MEMORY and may be tried again.
 * Whatever makes a call fail, its objects are afterwards as they were before it.
 *
 * Growth: parameter and result structs start with their own size: initialise parameters with the matching
 * glimpse_*_init(&params, sizeof params) and set struct_size of results, so that fields can be added at their ends
 * without breaking programs built before. A program may be newer than the library, too: parameters that the library
 * does not know must then be zero (GLIMPSE_ERROR_UNSUPPORTED), results that it does not know stay as they were. The
 * init functions return the size that this library knows, and do nothing but that when given NULL or no room. Within a
 * major version no function, field or number goes or changes its meaning; what is to go is marked "deprecated" here one
 * minor version before. New status codes may come: treat an unknown one as a failure.
 *
 * Threads: a model is immutable and may be used by any number of sessions in any threads at the same time; so is an
 * embedding once it is made. A session belongs to one call at a time: while one is under way any other, from another
 * thread or from a callback of that call, fails with GLIMPSE_ERROR_BUSY and changes nothing; only
 * glimpse_session_n_past() answers (as of the last call that ended), and glimpse_session_free() from its own callback
 * takes effect when the call ends.
 *
 * A session and those forked from it are a family: they share threads, scratch and the pool of their caches' pages, so
 * that one of them works at a time (GLIMPSE_ERROR_BUSY) or several in one glimpse_step_many(). Each may be freed at any
 * time, in any order.
 *
 * An engine and its tickets may be called from any thread at any time, from their own callbacks too.
 *
 * Our threads: a load and each session have n_threads - 1 of their own. They sleep between calls, leave signals to the
 * host, and have ended when glimpse_model_load() and glimpse_session_free() return: with everything freed, dlclose() is
 * safe. Where the system refuses threads (a limit on processes or on address space), those there are do the work, at
 * worst the calling thread alone, and the log has a warning. Results are the same bits for any number of them.
 *
 * fork: a child process may use the models and sessions that it inherits, and makes threads of its own for them. What
 * another thread was using at that moment is in the middle of a call, and so is an engine that has a thread of its own:
 * in the child these and their tickets may only be freed. CUDA does not survive a fork: with a GPU, load in the child.
 *
 * Built with GLIMPSE_OPENMP (not the default): the threads are OpenMP's. They stay, and so does the library after
 * dlclose(); where they cannot be had, OpenMP's run-time library ends the process; a child process works on one thread.
 *
 * Callbacks run in the thread that made the call. They may use other sessions and the model. What they are given is
 * valid until they return. To stop a call return 0, or set the session's cancel flag; not longjmp. A C++ exception that
 * leaves a callback ends the call as an error: GLIMPSE_ERROR_INTERNAL with its message (GLIMPSE_ERROR_OUT_OF_MEMORY for
 * std::bad_alloc).
 */
#ifndef GLIMPSE_GLIMPSE_H_
#define GLIMPSE_GLIMPSE_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define GLIMPSE_API
#else
#define GLIMPSE_API __attribute__((visibility("default")))
#endif

#define GLIMPSE_VERSION_MAJOR 0
#define GLIMPSE_VERSION_MINOR 1
#define GLIMPSE_VERSION_PATCH 0

/* "0.1.0" of the library that is linked. */
GLIMPSE_API const char* glimpse_version(void);

/* ---- Status ------------------------------------------------------------------------------------------------------ */

typedef enum glimpse_status {
  GLIMPSE_OK = 0,
  GLIMPSE_ERROR_INVALID_ARGUMENT = 1,
  GLIMPSE_ERROR_NOT_FOUND = 2,
  GLIMPSE_ERROR_IO = 3,
  GLIMPSE_ERROR_TRUNCATED = 4,
  GLIMPSE_ERROR_CORRUPT = 5,
  GLIMPSE_ERROR_UNSUPPORTED = 6,
  GLIMPSE_ERROR_TOO_LARGE = 7,
  GLIMPSE_ERROR_MISMATCH = 8,
  GLIMPSE_ERROR_OUT_OF_MEMORY = 9,
  GLIMPSE_ERROR_CONTEXT_FULL = 10,
  GLIMPSE_ERROR_CANCELLED = 11,
  GLIMPSE_ERROR_NUMERIC = 12,
  GLIMPSE_ERROR_DEVICE = 13,
  GLIMPSE_ERROR_INTERNAL = 14,
  GLIMPSE_ERROR_BUSY = 15 /* the session is in use by another call; an engine's queue is full */
} glimpse_status;

/* "out of memory", ... ; never NULL. */
GLIMPSE_API const char* glimpse_status_name(glimpse_status status);
/* Message of the last call of this thread that failed, at most 1023 bytes; "" when none has. Valid until the thread's
 * next call. It may quote what a file says as it stands there, control characters too: show it as you show other
 * untrusted text. */
GLIMPSE_API const char* glimpse_last_error(void);

/* ---- Callbacks --------------------------------------------------------------------------------------------------- */

typedef enum glimpse_log_level {
  GLIMPSE_LOG_DEBUG = 0,
  GLIMPSE_LOG_INFO = 1,
  GLIMPSE_LOG_WARNING = 2,
  GLIMPSE_LOG_ERROR = 3
} glimpse_log_level;

/* One message without a newline at its end; untrusted text as glimpse_last_error()'s. */
typedef void (*glimpse_log_callback)(void* user, glimpse_log_level level, const char* message);
/* stage: "load", "read image", "encode image", "prefill"; fraction in [0, 1]. Return 0 to cancel: the call then fails
 * with GLIMPSE_ERROR_CANCELLED and leaves its object as it was. */
typedef int (*glimpse_progress_callback)(void* user, const char* stage, double fraction);
/* Called for each token with a piece of the answer: complete, valid UTF-8, NUL-terminated, n_bytes long; empty where
 * the token brought no text that may be shown yet. Return 0 to stop; what was said stays. */
typedef int (*glimpse_text_callback)(void* user, const char* text, size_t n_bytes);

/* ---- Model ------------------------------------------------------------------------------------------------------- */

typedef struct glimpse_model glimpse_model;

typedef enum glimpse_vision_precision {
  GLIMPSE_VISION_AUTO = 0, /* bfloat16 where the CPU multiplies it, otherwise the weights as the file has them */
  GLIMPSE_VISION_F32 = 1,
  GLIMPSE_VISION_BF16 = 2,
  GLIMPSE_VISION_INT8 = 3 /* half the memory of bfloat16 and the fastest; larger error */
} glimpse_vision_precision;

typedef enum glimpse_device {
  GLIMPSE_DEVICE_CPU = 0,
  GLIMPSE_DEVICE_CUDA = 1, /* the first GPU; an error where there is none that this build can use */
  GLIMPSE_DEVICE_AUTO = 2  /* the GPU if there is one, else the CPU; the log says which and why */
} glimpse_device;

/* deprecated: device_options in glimpse_model_params */
typedef enum glimpse_cuda_decode {
  GLIMPSE_CUDA_DECODE_GRAPH = 0,
  GLIMPSE_CUDA_DECODE_LAUNCHES = 1
} glimpse_cuda_decode;

typedef struct glimpse_model_params {
  size_t struct_size;
  const char* model_path;   /* text model, GGUF; first shard of a split one */
  const char* mmproj_path;  /* vision encoder, GGUF; NULL: text only */
  int32_t n_threads;        /* for loading; 0: one per available CPU (affinity and container quota respected) */
  int32_t vision_precision; /* glimpse_vision_precision */
  int32_t use_reference;    /* 1: the slow scalar oracle instead of the kernels */
  glimpse_log_callback log;
  void* log_user;
  glimpse_progress_callback progress;
  void* progress_user;
  /* Directory for side files of packed weights: a load leaves there what it made of the model files, the next load
   * reads it into memory and checks every byte by a checksum. It must exist; NULL: none. "auto":
   * $XDG_CACHE_HOME/glimpse or ~/.cache/glimpse, made when missing, for the user alone; its files take at most 16 GiB,
   * those that were not used for the longest time are deleted first (a directory of that name is "./auto"). What is
   * stale or damaged is replaced; trouble is a warning in the log, no error. */
  const char* pack_cache_dir;
  int32_t device;      /* glimpse_device */
  int32_t cuda_decode; /* deprecated: device_options, which is asked first */
  /* 1: side files are mapped instead of read. Several processes then share one copy, and the kernel may drop pages and
   * read them again. They are checked when the model is loaded, not later: as long as the model lives, writing into
   * such a file changes answers, and cutting it short kills the process (SIGBUS). Only for a directory that nobody else
   * writes to. */
  int32_t pack_cache_map;
  /* How a device works, for measurements: "name=value", several separated by commas; NULL: as is best. Names and values
   * that are unknown are refused, for whatever device. Greedy answers are the same bits whatever is chosen.
   * cuda_decode=graph: a token's launches are recorded once and played, the GPU draws the tokens; cuda_decode=launches:
   * launch by launch, the host draws, as it does on the CPU. */
  const char* device_options;
} glimpse_model_params;

GLIMPSE_API size_t glimpse_model_params_init(glimpse_model_params* params, size_t struct_size);
/* On error *out is NULL; so it is with every call that creates something. */
GLIMPSE_API glimpse_status glimpse_model_load(const glimpse_model_params* params, glimpse_model** out);
GLIMPSE_API void glimpse_model_free(glimpse_model* model);

typedef struct glimpse_model_info {
  size_t struct_size;
  const char* architecture; /* valid as long as the model */
  const char* name;
  int32_t has_vision;
  int32_t vocab_size;
  int32_t hidden_size;
  int32_t n_layers;
  int32_t context_length;
  uint64_t weight_bytes;
  uint64_t mapped_bytes; /* of the weights: mapped from side files, shared between processes; see pack_cache_map */
  int32_t eos_token;     /* as the file says; -1: it does not. What ends an answer: glimpse_token_info */
  int32_t pad_token;
  /* What was recognised of the file's chat template, for people: "ChatML, tools as JSON, thinking that can be switched
   * off, no default system text"; of a template that is not of Qwen's family the load warns. */
  const char* chat_format;
  int32_t takes_tools;    /* 1: prompts have a place for tools */
  int32_t opens_thinking; /* 1: a prompt ends inside of a think block, unless it says not to think */
  const char* pooling;    /* "none": it answers; "mean", "cls", "last": it makes vectors; "rank": scores */
} glimpse_model_info;
GLIMPSE_API glimpse_status glimpse_model_get_info(const glimpse_model* model, glimpse_model_info* info);

/* Token ids of a text. Pass capacity 0 to ask for the count. Control tokens in the text are ordinary text. */
GLIMPSE_API glimpse_status glimpse_tokenize(const glimpse_model* model, const char* text, size_t n_bytes, int32_t* ids,
                                            size_t capacity, size_t* n_ids);
/* The same under rules of the caller's choice. */
typedef enum glimpse_tokenize_flags {
  GLIMPSE_TOKENIZE_SPECIAL = 1, /* control tokens in the text ("<|im_end|>") are those tokens: for trusted text only */
  GLIMPSE_TOKENIZE_AS_TYPED = 2 /* no Unicode normalisation (NFC) before */
} glimpse_tokenize_flags;
GLIMPSE_API glimpse_status glimpse_tokenize_with(const glimpse_model* model, const char* text, size_t n_bytes,
                                                 uint32_t flags, int32_t* ids, size_t capacity, size_t* n_ids);
/* Bytes of one token; not necessarily valid UTF-8 alone. The pointer is valid as long as the model. */
GLIMPSE_API glimpse_status glimpse_token_bytes(const glimpse_model* model, int32_t id, const char** bytes,
                                               size_t* n_bytes);
/* Bytes of many tokens, without a NUL at the end; control tokens by their names when render_special, else nothing. Pass
 * capacity 0 to ask for the count. */
GLIMPSE_API glimpse_status glimpse_detokenize(const glimpse_model* model, const int32_t* ids, size_t n_ids,
                                              int32_t render_special, char* bytes, size_t capacity, size_t* n_bytes);

typedef enum glimpse_token_type {
  GLIMPSE_TOKEN_NORMAL = 1,
  GLIMPSE_TOKEN_UNKNOWN = 2,
  GLIMPSE_TOKEN_CONTROL = 3,
  GLIMPSE_TOKEN_USER_DEFINED = 4,
  GLIMPSE_TOKEN_UNUSED = 5,
  GLIMPSE_TOKEN_BYTE = 6
} glimpse_token_type;
typedef struct glimpse_token_info {
  size_t struct_size;
  int32_t type;        /* glimpse_token_type */
  int32_t ends_answer; /* 1: generation stops at it */
} glimpse_token_info;
GLIMPSE_API glimpse_status glimpse_token_get_info(const glimpse_model* model, int32_t id, glimpse_token_info* info);
/* The id of a token by its text as the file has it: "<|image_pad|>". GLIMPSE_ERROR_NOT_FOUND when there is none. */
GLIMPSE_API glimpse_status glimpse_find_token(const glimpse_model* model, const char* text, int32_t* id);

/* What a model's file says about itself: any key of it. Numbers in decimal, "true" and "false", strings as they are,
 * arrays as "[1, 2]" with strings quoted as JSON does; of an array of more than 1024 entries only its type. The pointer
 * is valid as long as the model. GLIMPSE_ERROR_NOT_FOUND when there is no such key, or no such file. */
typedef enum glimpse_model_file { GLIMPSE_FILE_MODEL = 0, GLIMPSE_FILE_MMPROJ = 1 } glimpse_model_file;
GLIMPSE_API glimpse_status glimpse_model_metadata(const glimpse_model* model, int32_t file, const char* key,
                                                  const char** text, size_t* n_bytes);
/* The keys of a file in alphabetical order, by index from 0; GLIMPSE_ERROR_NOT_FOUND past the last. */
GLIMPSE_API glimpse_status glimpse_model_metadata_key(const glimpse_model* model, int32_t file, size_t index,
                                                      const char** key);

/* ---- Session ----------------------------------------------------------------------------------------------------- */

typedef struct glimpse_session glimpse_session;

/* Element type of the key/value cache. F16, the default, and BF16 take 2 bytes a value, F32 4, Q8_0 (8-bit integers, a
 * scale per 32) 1.06 to 1.15: where a layer adds large biases to its keys, as published models do in their first
 * layers, those channels are kept in 16 bits. F16 keeps three bits more than BF16; values beyond its range saturate at
 * 65504. */
typedef enum glimpse_kv_type {
  GLIMPSE_KV_BF16 = 0,
  GLIMPSE_KV_F32 = 1,
  GLIMPSE_KV_F16 = 2,
  GLIMPSE_KV_Q8_0 = 3
} glimpse_kv_type;

typedef struct glimpse_session_params {
  size_t struct_size;
  int32_t n_threads;        /* 0: one per available CPU */
  int32_t n_ctx;            /* tokens of the conversation, pictures included */
  int32_t n_batch;          /* rows per prefill pass */
  int32_t kv_type;          /* glimpse_kv_type */
  int64_t image_min_pixels; /* bounds on the resized picture */
  int64_t image_max_pixels;
  int32_t image_min_tokens; /* the same in tokens; override the pixels when not 0 */
  int32_t image_max_tokens;
  glimpse_log_callback log;
  void* log_user;
  /* Prompt lookup: up to this many tokens (at most 15) are drafted from what was said before and run with the next one;
   * faster where the answer repeats, and the same answer always (on a GPU, which draws tokens itself otherwise: where
   * it is greedy). 0: off */
  int32_t n_speculate;
  /* Limits on pictures as they come, checked before anything is allocated for their pixels. What exceeds one is
   * GLIMPSE_ERROR_TOO_LARGE. */
  int64_t image_source_max_pixels; /* width times height of the file; where Pillow refuses: 178956970 */
  int64_t image_source_max_memory; /* bytes held while a picture is read: glimpse_memory_plan.image_reading; 256 MiB */
  int32_t image_source_max_scans;  /* of a JPEG: 100 */
  /* NULL, or a flag of the host's that lives as long as the session: while it is not 0, the session's calls end as when
   * a callback returned 0. It is looked at between the layers of every pass and for every token. Another thread (with
   * an atomic store) or a signal handler (a volatile sig_atomic_t) may set it; the library never does. */
  const volatile int* cancel;
  /* Slots of the session with its forks and checkpoints together, in pages of 256: what they have in common counts
   * once. 0, or less than n_ctx: n_ctx. */
  int32_t n_pool;
  /* A smaller model of the same vocabulary, loaded for the same device: it drafts up to n_draft tokens (at most 15)
   * where prompt lookup has nothing, and they are run with the next one. The answer is the same, as above. It is not
   * shown pictures. The session keeps it alive. NULL: none. GLIMPSE_ERROR_MISMATCH says what differs. */
  const glimpse_model* draft_model;
  int32_t n_draft; /* 8; 0: the draft model is not used */
  /* Drafts end where the draft model thinks it less likely than this that all of them are drawn; 0: chosen by the sizes
   * of the two models */
  float draft_min_probability;
  /* 1: blocks of a still picture (28x28 or 32x32 resized pixels, a token each) that repeat their neighbours exactly are
   * neither encoded nor shown to the model, which was not trained so: fewer tokens of screens and documents, answers
   * that may differ. After PixelPrune (arXiv 2604.00886) */
  int32_t image_dedup;
} glimpse_session_params;

GLIMPSE_API size_t glimpse_session_params_init(glimpse_session_params* params, size_t struct_size);

/* Bytes that a session would use, before anything is allocated. */
typedef struct glimpse_memory_plan {
  size_t struct_size;
  uint64_t weights; /* of the model, shared between its sessions, and of its draft model */
  uint64_t kv_cache;
  uint64_t decoder_scratch;
  uint64_t vision_scratch;
  uint64_t total;
  /* While a picture is read: its file if glimpse reads it, what its decoder holds, rows on their way through the
   * resizing. At most; usually a few MiB. Part of total, but not allocated with the session. */
  uint64_t image_reading;
} glimpse_memory_plan;
GLIMPSE_API glimpse_status glimpse_plan_session(const glimpse_model* model, const glimpse_session_params* params,
                                                glimpse_memory_plan* plan);

/* Allocates what the plan says; later calls allocate nothing of size. */
GLIMPSE_API glimpse_status glimpse_session_create(const glimpse_model* model, const glimpse_session_params* params,
                                                  glimpse_session** out);
GLIMPSE_API void glimpse_session_free(glimpse_session* session);
/* What the parameters came to: a context beyond what the model was trained for is cut, 0 threads become a number. */
typedef struct glimpse_session_info {
  size_t struct_size;
  int32_t n_ctx;
  int32_t n_batch;
  int32_t n_threads;
  int32_t n_speculate;
  int32_t max_image_tokens; /* of one picture; 0 without vision */
  int32_t page_slots;       /* slots of a page: 256 */
  int32_t n_pages;          /* of the family's pool */
  int32_t n_free_pages;
  int32_t n_draft; /* 0: there is no draft model */
} glimpse_session_info;
GLIMPSE_API glimpse_status glimpse_session_get_info(const glimpse_session* session, glimpse_session_info* info);
/* Forgets the conversation; memory stays. */
GLIMPSE_API glimpse_status glimpse_session_reset(glimpse_session* session);

/* ---- Pictures ---------------------------------------------------------------------------------------------------- */

/* The vision encoder's result for one picture. Independent of the text around it: keep it, save it, use it in any
 * session of a model with the same vision file (a copy of it, too). Another model refuses it with
 * GLIMPSE_ERROR_MISMATCH, whatever its width; one loaded without a vision file cannot tell, takes it and warns. */
typedef struct glimpse_embedding glimpse_embedding;

/* An encoded picture in memory: JPEG, PNG, WebP, GIF, TIFF, HEIC, AVIF, BMP, PPM. A file may be a pipe, which is read
 * to its end. */
GLIMPSE_API glimpse_status glimpse_encode_image_bytes(glimpse_session* session, const void* bytes, size_t n_bytes,
                                                      glimpse_progress_callback progress, void* progress_user,
                                                      glimpse_embedding** out);
GLIMPSE_API glimpse_status glimpse_encode_image_file(glimpse_session* session, const char* path,
                                                     glimpse_progress_callback progress, void* progress_user,
                                                     glimpse_embedding** out);
/* 8-bit RGB, rows `stride` bytes apart (0: 3 * width). */
GLIMPSE_API glimpse_status glimpse_encode_image_rgb(glimpse_session* session, const uint8_t* rgb, int32_t width,
                                                    int32_t height, size_t stride, glimpse_progress_callback progress,
                                                    void* progress_user, glimpse_embedding** out);

/* One picture for an encoder; one of bytes, path and rgb is set. Clear the struct before you fill it. */
typedef struct glimpse_picture {
  const void* bytes; /* an encoded picture, n_bytes long */
  size_t n_bytes;
  const char* path;
  const uint8_t* rgb;    /* 8-bit RGB, height rows of 3 * width bytes */
  int32_t width, height; /* of rgb, in pixels */
  size_t stride;         /* bytes from one row of rgb to the next; 0: 3 * width */
} glimpse_picture;

/* An encoder needs no session: for those who keep embeddings, or encode in other threads than they answer in. Its own
 * threads and memory; busy, freed and stopped as a session is. */
typedef struct glimpse_encoder glimpse_encoder;
typedef struct glimpse_encoder_params {
  size_t struct_size;
  int32_t n_threads;        /* 0: one per available CPU */
  int32_t image_min_tokens; /* the rest is as in glimpse_session_params */
  int32_t image_max_tokens;
  int32_t image_source_max_scans;
  int64_t image_min_pixels;
  int64_t image_max_pixels;
  int64_t image_source_max_pixels;
  int64_t image_source_max_memory;
  glimpse_log_callback log;
  void* log_user;
  const volatile int* cancel;
  int32_t image_dedup; /* as in glimpse_session_params */
} glimpse_encoder_params;
GLIMPSE_API size_t glimpse_encoder_params_init(glimpse_encoder_params* params, size_t struct_size);
/* Bytes that an encoder would use. GLIMPSE_ERROR_MISMATCH for a model without a vision file. */
GLIMPSE_API glimpse_status glimpse_plan_encoder(const glimpse_model* model, const glimpse_encoder_params* params,
                                                glimpse_memory_plan* plan);
/* Allocates what the plan says. */
GLIMPSE_API glimpse_status glimpse_encoder_create(const glimpse_model* model, const glimpse_encoder_params* params,
                                                  glimpse_encoder** out);
GLIMPSE_API void glimpse_encoder_free(glimpse_encoder* encoder);
/* Encodes n_pictures at once into out[0 .. n_pictures): small ones share passes, and each becomes what it becomes
 * alone, bit for bit. All or none: after an error, whose message says which picture, every out[i] is NULL. All files
 * are opened first: what the plan says of image_reading may be used by each. */
GLIMPSE_API glimpse_status glimpse_encoder_encode(glimpse_encoder* encoder, const glimpse_picture* pictures,
                                                  size_t n_pictures, glimpse_progress_callback progress,
                                                  void* progress_user, glimpse_embedding** out);

/* ---- Videos ------------------------------------------------------------------------------------------------------ */

/* Fills in one of a video's frames; what it points at stays valid until the next call or the end of the encoding. They
 * are asked for in order, each once. Return 0 to end it: the call fails with GLIMPSE_ERROR_CANCELLED. */
typedef int (*glimpse_frame_callback)(void* user, size_t index, glimpse_picture* picture);

/* A video as the frames that are to be seen, all of one size, as glimpse_sample_video() chose them. Two make a slice,
 * of which an odd last frame is both. Qwen2-VL counts slices, Qwen2.5-VL is told how long one lasts, Qwen3-VL is told
 * in words when each is. */
typedef struct glimpse_video {
  size_t struct_size;
  size_t n_frames;
  const glimpse_picture* frames; /* n_frames; or NULL, and they come from `frame` */
  glimpse_frame_callback frame;
  void* frame_user;
  double fps;            /* of these frames, not of the film they are from; 2 */
  const double* seconds; /* when each was taken, n_frames; NULL: index / fps */
  int64_t min_pixels;    /* bounds on a resized frame; of Qwen3-VL on all together; 0: as the model was released with */
  int64_t max_pixels;
  int32_t max_tokens; /* of the video; 0: what the pixels come to. No slice exceeds image_max_tokens */
} glimpse_video;
GLIMPSE_API size_t glimpse_video_init(glimpse_video* video, size_t struct_size);
/* The embedding stands for the whole video: a part of a message like that of a picture. */
GLIMPSE_API glimpse_status glimpse_encode_video(glimpse_session* session, const glimpse_video* video,
                                                glimpse_progress_callback progress, void* progress_user,
                                                glimpse_embedding** out);
GLIMPSE_API glimpse_status glimpse_encoder_encode_video(glimpse_encoder* encoder, const glimpse_video* video,
                                                        glimpse_progress_callback progress, void* progress_user,
                                                        glimpse_embedding** out);

typedef struct glimpse_video_sampling {
  size_t struct_size;
  double fps; /* frames to see per second; 2 */
  int32_t min_frames;
  int32_t max_frames;
} glimpse_video_sampling;
GLIMPSE_API size_t glimpse_video_sampling_init(glimpse_video_sampling* sampling, size_t struct_size);
/* Which of n_frames frames, taken at `fps`, the model's family is shown: indices in ascending order. Pass capacity 0 to
 * ask for their number n; those seen then have n / n_frames * fps frames per second. sampling: NULL for the defaults.
 */
GLIMPSE_API glimpse_status glimpse_sample_video(const glimpse_model* model, size_t n_frames, double fps,
                                                const glimpse_video_sampling* sampling, size_t* indices,
                                                size_t capacity, size_t* n);

/* ---- Embeddings -------------------------------------------------------------------------------------------------- */

typedef struct glimpse_embedding_info {
  size_t struct_size;
  int32_t n_tokens;
  int32_t width;                           /* floats per token */
  int32_t original_width, original_height; /* pixels, upright */
  int32_t resized_width, resized_height;   /* what the encoder saw; box coordinates of Qwen2.5-VL refer to it */
  const float* values;                     /* (n_tokens, width); valid as long as the embedding */
  int32_t n_slices;                        /* of a video: pairs of frames; 0: a picture */
  int32_t n_left_out;                      /* tokens that image_dedup spared; n_tokens are those that are there */
} glimpse_embedding_info;
GLIMPSE_API glimpse_status glimpse_embedding_get_info(const glimpse_embedding* embedding, glimpse_embedding_info* info);
/* Pass capacity 0 to ask for the size. The bytes carry a checksum and the fingerprint of the encoder. */
GLIMPSE_API glimpse_status glimpse_embedding_save(const glimpse_embedding* embedding, void* bytes, size_t capacity,
                                                  size_t* n_bytes);
GLIMPSE_API glimpse_status glimpse_embedding_load(const void* bytes, size_t n_bytes, glimpse_embedding** out);
GLIMPSE_API void glimpse_embedding_free(glimpse_embedding* embedding);

/* ---- Conversation ------------------------------------------------------------------------------------------------ */

/* One piece of a message: a text, or a picture or video when embedding is not NULL. Clear the struct before you fill
 * it. */
typedef struct glimpse_part {
  const char* text; /* UTF-8; control tokens inside are ordinary text, but in a raw message */
  const glimpse_embedding* embedding;
  size_t n_bytes; /* of text, which must not contain NUL; 0: text is NUL-terminated */
} glimpse_part;

/* A raw message has no chat template, for base models and for templates of your own: control tokens in its texts are
 * recognised, so that the ids are those that transformers' tokenizer gives, and a picture is <|vision_start|>, its
 * tokens, <|vision_end|>. It is the only message of its call. */
typedef struct glimpse_message {
  /* "system", "user", "assistant" (its text as the model said it, with its thinking and tool calls:
   * glimpse_join_answer()), "tool" (what a tool gave) or "raw" */
  const char* role;
  const glimpse_part* parts;
  size_t n_parts;
} glimpse_message;

/* The prompt that glimpse_generate() makes of messages at the start of a conversation, as text without a NUL at the
 * end: the model's chat format with its control tokens spelled out and one pad token for each picture. Pass capacity 0
 * to ask for the size. */
GLIMPSE_API glimpse_status glimpse_render_chat(const glimpse_model* model, const glimpse_message* messages,
                                               size_t n_messages, char* text, size_t capacity, size_t* n_bytes);

/* What a prompt says beside its messages: whether the answer may begin with what the model thinks, and tools. */
typedef enum glimpse_thinking {
  GLIMPSE_THINKING_DEFAULT = 0, /* as the model's chat template has it when it is not asked */
  GLIMPSE_THINKING_ON = 1,
  GLIMPSE_THINKING_OFF = 2 /* GLIMPSE_ERROR_UNSUPPORTED by the next prompt when the template cannot */
} glimpse_thinking;
typedef struct glimpse_prompt_params {
  size_t struct_size;
  /* What the model may call: a JSON object each, as OpenAI's "tools" has them. Where the template knows no tools they
   * are GLIMPSE_ERROR_UNSUPPORTED, by the next prompt. */
  const char* const* tools;
  size_t n_tools;
  int32_t thinking; /* glimpse_thinking */
} glimpse_prompt_params;
GLIMPSE_API size_t glimpse_prompt_params_init(glimpse_prompt_params* params, size_t struct_size);
/* Of the session's prompts from now on; forks have them too. Tools are written where a conversation begins. Earlier
 * answers lose what they thought when the next question comes, where the template has it so. */
GLIMPSE_API glimpse_status glimpse_session_set_prompt_params(glimpse_session* session,
                                                             const glimpse_prompt_params* params);

typedef struct glimpse_logit_bias {
  int32_t id;
  float bias; /* added to the token's logit; -INFINITY forbids it */
} glimpse_logit_bias;

/* What an answer may be. Compiled once for a model's tokenizer, used by any number of answers in any threads. */
typedef struct glimpse_constraint glimpse_constraint;
typedef enum glimpse_constraint_kind {
  GLIMPSE_CONSTRAINT_JSON_SCHEMA = 0, /* JSON of a schema, the text being JSON Schema 2020-12; "boxes": the ready one
                                         for lists of {"bbox_2d": [x1, y1, x2, y2], "label": ".."} */
  GLIMPSE_CONSTRAINT_JSON_OBJECT = 1, /* any JSON object; there is no text */
  GLIMPSE_CONSTRAINT_REGEX = 2,       /* what a regular expression matches as a whole */
  GLIMPSE_CONSTRAINT_GBNF = 3         /* a text of rule `root` of a grammar in llama.cpp's notation */
} glimpse_constraint_kind;
/* n_bytes 0: text ends with a NUL. GLIMPSE_ERROR_INVALID_ARGUMENT says where the text is wrong, or that no answer is
 * left; GLIMPSE_ERROR_UNSUPPORTED names the keyword of a schema, or the part of an expression, that is not supported,
 * and its place; GLIMPSE_ERROR_TOO_LARGE. */
GLIMPSE_API glimpse_status glimpse_constraint_create(const glimpse_model* model, int32_t kind, const char* text,
                                                     size_t n_bytes, glimpse_constraint** out);
/* One of these texts. */
GLIMPSE_API glimpse_status glimpse_constraint_create_choice(const glimpse_model* model, const char* const* texts,
                                                            size_t n_texts, glimpse_constraint** out);
/* Answers that began with it go on. */
GLIMPSE_API void glimpse_constraint_free(glimpse_constraint* constraint);

typedef struct glimpse_generate_params {
  size_t struct_size;
  int32_t max_tokens;       /* -1: until the context is full */
  float temperature;        /* 0: greedy */
  int32_t top_k;            /* 0: off */
  float top_p;              /* 1: off */
  float min_p;              /* 0: off */
  float repetition_penalty; /* 1: off */
  float presence_penalty;
  float frequency_penalty;
  int32_t penalty_last_n; /* -1: whole conversation */
  uint64_t seed;
  const glimpse_logit_bias* logit_bias;
  size_t n_logit_bias;
  const char* const* stop; /* stop strings; not part of the answer */
  size_t n_stop;
  int32_t n_top_logprobs;
  int32_t render_special; /* 1: show <|box_start|> and the like */
  glimpse_text_callback on_text;
  void* on_text_user;
  glimpse_progress_callback progress;
  void* progress_user;
  /* NULL: the answer may be anything. It is then one of those allowed when its reason is GLIMPSE_FINISH_STOP, and the
   * beginning of one otherwise. GLIMPSE_ERROR_MISMATCH for one made for another model's tokenizer. */
  const glimpse_constraint* constraint;
} glimpse_generate_params;
GLIMPSE_API size_t glimpse_generate_params_init(glimpse_generate_params* params, size_t struct_size);

typedef enum glimpse_finish_reason {
  GLIMPSE_FINISH_STOP = 0, /* the model ended its turn */
  GLIMPSE_FINISH_STOP_STRING = 1,
  GLIMPSE_FINISH_MAX_TOKENS = 2,
  GLIMPSE_FINISH_CONTEXT_FULL = 3,
  GLIMPSE_FINISH_CANCELLED = 4,
  GLIMPSE_FINISH_NONE = 5 /* a step: not finished yet */
} glimpse_finish_reason;
GLIMPSE_API const char* glimpse_finish_reason_name(glimpse_finish_reason reason);

/* Prefills the messages after what the session holds and generates the answer. The conversation then includes both:
 * pass only new messages next time. On error the session is as before the call. */
GLIMPSE_API glimpse_status glimpse_generate(glimpse_session* session, const glimpse_message* messages,
                                            size_t n_messages, const glimpse_generate_params* params);

/* The same in pieces, for those who step by themselves. */
GLIMPSE_API glimpse_status glimpse_prefill(glimpse_session* session, const glimpse_message* messages, size_t n_messages,
                                           glimpse_progress_callback progress, void* progress_user);
GLIMPSE_API glimpse_status glimpse_begin_answer(glimpse_session* session, const glimpse_generate_params* params);
typedef struct glimpse_step_result {
  size_t struct_size;
  int32_t token;
  float logprob;
  int32_t finish_reason; /* GLIMPSE_FINISH_NONE while the answer goes on */
  const char* text;      /* what may be shown now, NUL-terminated; valid until the session's next call */
  size_t n_bytes;
  int32_t status; /* glimpse_status of this session's step, for glimpse_step_many() */
} glimpse_step_result;
GLIMPSE_API glimpse_status glimpse_step(glimpse_session* session, glimpse_step_result* result);

/* A step of each of several sessions of one family, in one pass over the weights. Each gets the bits that
 * glimpse_step() alone would give it (on a GPU, which draws tokens elsewhere then: greedy ones). results: one per
 * session; set struct_size of each. The call fails with the first error of a session, whose message says which;
 * results[i].status tells of each, and those that are GLIMPSE_OK have made their step. When it fails otherwise (a
 * session twice, of another family, busy) nothing was done. */
GLIMPSE_API glimpse_status glimpse_step_many(glimpse_session* const* sessions, size_t n_sessions,
                                             glimpse_step_result* results);
/* A token of the caller's choice in the place of one that a step would draw: it counts as drawn, with text, stop
 * strings and all. No pass is run: what was fed goes through the model together, with the next step or with
 * glimpse_forward(). GLIMPSE_ERROR_INVALID_ARGUMENT outside of an answer and for an id outside the vocabulary. */
GLIMPSE_API glimpse_status glimpse_feed(glimpse_session* session, int32_t token, glimpse_step_result* result);
/* Runs what was fed or drawn since the last pass: glimpse_get_logits() are then those that follow it. */
GLIMPSE_API glimpse_status glimpse_forward(glimpse_session* session);

/* ---- Vectors and scores ------------------------------------------------------------------------------------------ */

/* A model that reads and does not answer: embedding models (pooling_type mean, cls, last) make a vector of a text or a
 * picture, rerankers (pooling_type rank, or a model that answers yes or no) say how well documents fit a query.
 * Sessions refuse models with a pooling_type. Busy and freed as an encoder is. */
typedef struct glimpse_embedder glimpse_embedder;
/* params: threads, context, batch and cache as of a session; a text may be as long as the context. */
GLIMPSE_API glimpse_status glimpse_embedder_create(const glimpse_model* model, const glimpse_session_params* params,
                                                   glimpse_embedder** out);
GLIMPSE_API void glimpse_embedder_free(glimpse_embedder* embedder);

/* Texts and pictures that make one vector, or one document. Control tokens in the texts are ordinary text. */
typedef struct glimpse_input {
  const glimpse_part* parts;
  size_t n_parts;
} glimpse_input;
typedef enum glimpse_pooling {
  GLIMPSE_POOLING_FILE = 0, /* as the model's file says */
  GLIMPSE_POOLING_MEAN = 1,
  GLIMPSE_POOLING_CLS = 2,
  GLIMPSE_POOLING_LAST = 3
} glimpse_pooling;
typedef struct glimpse_embed_params {
  size_t struct_size;
  /* What the vectors are for, or what makes a document the right one; NULL: no query, as for documents that are
   * searched; of ranking: that of a web search. */
  const char* instruction;
  int32_t pooling;     /* glimpse_pooling */
  int32_t keep_length; /* 1: vectors as they are; 0: of length 1 */
  glimpse_progress_callback progress;
  void* progress_user;
} glimpse_embed_params;
GLIMPSE_API size_t glimpse_embed_params_init(glimpse_embed_params* params, size_t struct_size);
/* Vectors of hidden_size floats (glimpse_model_info), one behind the other. Each is what it is alone, bit for bit. Pass
 * capacity 0 to ask for the count. params may be NULL. */
GLIMPSE_API glimpse_status glimpse_embedder_embed(glimpse_embedder* embedder, const glimpse_input* inputs,
                                                  size_t n_inputs, const glimpse_embed_params* params, float* vectors,
                                                  size_t capacity, size_t* n_floats);
/* n_documents scores in [0, 1]. params may be NULL. */
GLIMPSE_API glimpse_status glimpse_embedder_rank(glimpse_embedder* embedder, const glimpse_input* query,
                                                 const glimpse_input* documents, size_t n_documents,
                                                 const glimpse_embed_params* params, float* scores);

/* ---- Forks, checkpoints, files ----------------------------------------------------------------------------------- */

/* Another session that goes on from where this one stands, an answer in the making included: five questions about one
 * picture are five forks of a session that has seen it. Slots in common are in memory once; only the last page of 256
 * slots, partly filled, is copied when one of the two goes on. What they say equals what sessions of their own would.
 */
GLIMPSE_API glimpse_status glimpse_session_fork(const glimpse_session* session, glimpse_session** out);

/* All that a session is at a moment, to come back to: also from a fork of it, and after other rewinds or a reset. Its
 * pages stay in the pool until it is freed. */
typedef struct glimpse_checkpoint glimpse_checkpoint;
GLIMPSE_API glimpse_status glimpse_session_checkpoint(const glimpse_session* session, glimpse_checkpoint** out);
/* GLIMPSE_ERROR_INVALID_ARGUMENT for a checkpoint of another family. */
GLIMPSE_API glimpse_status glimpse_session_rewind(glimpse_session* session, const glimpse_checkpoint* checkpoint);
GLIMPSE_API void glimpse_checkpoint_free(glimpse_checkpoint* checkpoint);

/* The conversation as bytes: tokens, keys and values, with checksums and the fingerprint of the model. An answer in the
 * making is saved as one that was cut off: glimpse_begin_answer() goes on with it. Pass capacity 0 to ask for the size.
 */
GLIMPSE_API glimpse_status glimpse_session_save(const glimpse_session* session, void* bytes, size_t capacity,
                                                size_t* n_bytes);
/* The same to a file, which appears whole or not at all. */
GLIMPSE_API glimpse_status glimpse_session_save_file(const glimpse_session* session, const char* path);
/* Takes the place of the session's conversation. Every byte is checked before anything changes:
 * GLIMPSE_ERROR_TRUNCATED, _CORRUPT, _UNSUPPORTED (another version), _MISMATCH (another model, kv_type or kind of
 * device), _CONTEXT_FULL. */
GLIMPSE_API glimpse_status glimpse_session_load(glimpse_session* session, const void* bytes, size_t n_bytes);
GLIMPSE_API glimpse_status glimpse_session_load_file(glimpse_session* session, const char* path);

/* The last answer: valid until the session's next generate, begin_answer or reset. */
typedef struct glimpse_answer_info {
  size_t struct_size;
  const char* text;
  size_t n_bytes;
  const int32_t* tokens;
  size_t n_tokens;
  int32_t finish_reason; /* GLIMPSE_FINISH_NONE before the first answer and while steps make one */
  int32_t thinking_open; /* 1: it began inside of a think block: glimpse_splitter_params */
} glimpse_answer_info;
GLIMPSE_API glimpse_status glimpse_get_answer(const glimpse_session* session, glimpse_answer_info* info);

/* An answer taken apart, as it comes or afterwards: what the model thinks (think blocks), what it says, the tools that
 * it calls (tool_call blocks). */
typedef struct glimpse_splitter glimpse_splitter;
typedef struct glimpse_splitter_params {
  size_t struct_size;
  int32_t thinking_open; /* 1: the answer begins inside of a think block: glimpse_answer_info, glimpse_model_info */
  int32_t tool_calls;    /* 1: tools were given: calls are looked for */
} glimpse_splitter_params;
GLIMPSE_API size_t glimpse_splitter_params_init(glimpse_splitter_params* params, size_t struct_size);
typedef struct glimpse_tool_call {
  const char* name;
  const char* arguments; /* a JSON object */
} glimpse_tool_call;
typedef struct glimpse_answer_parts {
  size_t struct_size;
  const char* reasoning; /* without the line ends around it */
  size_t n_reasoning_bytes;
  const char* content; /* without the line ends that part it from the others */
  size_t n_content_bytes;
  const glimpse_tool_call* tool_calls;
  size_t n_tool_calls;
  const char* const* problems; /* what began like a call and was none, and why; it stays content */
  size_t n_problems;
} glimpse_answer_parts;
GLIMPSE_API glimpse_status glimpse_splitter_create(const glimpse_splitter_params* params, glimpse_splitter** out);
GLIMPSE_API void glimpse_splitter_free(glimpse_splitter* splitter);
/* The next piece of an answer's text, in UTF-8. parts: what it made known; it may be NULL, and what it points at is
 * valid until the splitter's next call. Nothing is known of what may be a part of a marker or of a call. */
GLIMPSE_API glimpse_status glimpse_splitter_push(glimpse_splitter* splitter, const char* text, size_t n_bytes,
                                                 glimpse_answer_parts* parts);
/* The rest, at the end of the answer. */
GLIMPSE_API glimpse_status glimpse_splitter_finish(glimpse_splitter* splitter, glimpse_answer_parts* parts);
/* All that was pushed, in its parts. */
GLIMPSE_API glimpse_status glimpse_splitter_get(glimpse_splitter* splitter, glimpse_answer_parts* parts);
/* The way back: the text of an "assistant" message, as the model's chat template has it, for an answer whose parts are
 * known. Give its first n_thinking_bytes, where there are any, and the rest as two parts of the message: then neither
 * is looked for in the other. parts: reasoning NULL where it is not known, so that a think block in content counts as
 * one; arguments that are no JSON object, as an answer that was cut off leaves them, stand as the template has a text;
 * problems are not read. Without a NUL at the end; pass capacity 0 to ask for the size. */
GLIMPSE_API glimpse_status glimpse_join_answer(const glimpse_model* model, const glimpse_answer_parts* parts,
                                               char* text, size_t capacity, size_t* n_bytes, size_t* n_thinking_bytes);

/* Log-probabilities of token `index` of the last answer: ids and logprobs get up to n_top_logprobs entries, descending.
 */
GLIMPSE_API glimpse_status glimpse_get_top_logprobs(const glimpse_session* session, size_t index, int32_t* ids,
                                                    float* logprobs, size_t capacity, size_t* n);
/* Logits of the last slot of the cache, (vocab_size) floats, valid until the session's next call: after a prefill those
 * of the prompt's last token, after a step those that the step's token was drawn from (it enters the cache with the
 * next step). An error before the first prefill and after a call that failed. */
GLIMPSE_API glimpse_status glimpse_get_logits(const glimpse_session* session, const float** logits, size_t* n);

typedef struct glimpse_timings {
  size_t struct_size;
  double image_decode_ms, image_resize_ms, image_encode_ms; /* sums over the pictures since the last answer */
  double prefill_ms, decode_ms;
  int64_t n_image_tokens, n_prompt_tokens, n_cached_tokens, n_generated_tokens;
  int64_t n_drafted_tokens, n_accepted_tokens; /* run as drafts; passes that drafts made needless */
} glimpse_timings;
GLIMPSE_API glimpse_status glimpse_get_timings(const glimpse_session* session, glimpse_timings* timings);
/* Cache slots in use after the session's last call. */
GLIMPSE_API int32_t glimpse_session_n_past(const glimpse_session* session);
/* Cache slots there are: n_ctx, or the model's context_length when that is less (the log then warns once). */
GLIMPSE_API int32_t glimpse_session_n_ctx(const glimpse_session* session);

/* ---- Boxes, points and polygons in answers ----------------------------------------------------------------------- */

typedef enum glimpse_shape_kind {
  GLIMPSE_SHAPE_BOX = 0,    /* two points: its left upper and its right lower corner */
  GLIMPSE_SHAPE_POINT = 1,  /* one */
  GLIMPSE_SHAPE_POLYGON = 2 /* three or more */
} glimpse_shape_kind;
typedef enum glimpse_shape_unit {
  GLIMPSE_UNIT_THOUSANDTHS = 0,   /* of the picture's width and height: Qwen2-VL, Qwen3-VL */
  GLIMPSE_UNIT_RESIZED_PIXELS = 1 /* pixels of the picture as the encoder saw it: Qwen2.5-VL */
} glimpse_shape_unit;
/* One of the pictures that were asked about, as glimpse_embedding_info has it. */
typedef struct glimpse_picture_size {
  int32_t original_width, original_height;
  int32_t resized_width, resized_height;
} glimpse_picture_size;

/* What an answer points at. */
typedef struct glimpse_shapes glimpse_shapes;
/* Reads an answer, given with its control tokens shown (glimpse_detokenize() of its tokens), in the formats of the
 * model's family: control tokens around corners, JSON, "points" tags. Pictures in the order of the conversation; they
 * may be NULL: then no shape has pixels. What is damaged or cut off is left out and told in glimpse_shapes_info. */
GLIMPSE_API glimpse_status glimpse_read_shapes(const glimpse_model* model, const char* text, size_t n_bytes,
                                               const glimpse_picture_size* pictures, size_t n_pictures,
                                               glimpse_shapes** out);
typedef struct glimpse_shapes_info {
  size_t struct_size;
  size_t n_shapes;
  int64_t n_unreadable; /* places that should hold a shape and hold none, or a damaged one */
  int32_t cut;          /* 1: the text ends in the middle of its shapes */
  const char* problem;  /* the same in words, "" when all is well; valid as long as the shapes */
} glimpse_shapes_info;
GLIMPSE_API glimpse_status glimpse_shapes_get_info(const glimpse_shapes* shapes, glimpse_shapes_info* info);
typedef struct glimpse_shape {
  size_t struct_size;
  int32_t kind;         /* glimpse_shape_kind */
  int32_t unit;         /* glimpse_shape_unit, of `said` */
  int32_t picture;      /* its number, from 1; 0: there are several and the answer does not say */
  size_t n_points;      /* pairs x, y */
  const double* said;   /* (n_points, 2): the numbers of the answer, cut to their range */
  const double* pixels; /* (n_points, 2): in pixels of the picture as given; NULL where picture is 0 */
  const char* label;    /* NUL-terminated, n_label_bytes long; "" without one. Untrusted text */
  size_t n_label_bytes;
} glimpse_shape;
/* By index from 0, in the order of the answer; pointers are valid as long as the shapes. GLIMPSE_ERROR_NOT_FOUND past
 * the last. */
GLIMPSE_API glimpse_status glimpse_shapes_get(const glimpse_shapes* shapes, size_t index, glimpse_shape* shape);
GLIMPSE_API void glimpse_shapes_free(glimpse_shapes* shapes);

/* ---- Many questions at once -------------------------------------------------------------------------------------- */

/* An engine answers many requests together: slices of prompts, and a token of every answer under way, share the passes
 * of one decoder. An answer is the same, bit for bit, alone and in any company, with the engine's caches or without (on
 * a GPU, but for rounding, where the prompt cache shortens a prompt).
 * Nothing is remembered between requests: each brings its whole conversation. What it has in common with earlier ones,
 * pictures included, is found in the prompt cache and not computed again.
 *
 * Who runs it: a thread of its own after glimpse_engine_start(). Without one, whoever waits for a ticket runs it, and
 * whoever calls glimpse_engine_step(); several threads may, one works at a time. Callbacks are made by that thread.
 * They may call all functions of the engine and of tickets, but waiting in a callback returns at once, and they hold up
 * all requests while they run.
 *
 * A program of one thread: create, submit any number, glimpse_ticket_wait() each. A server: create, start, submit from
 * any thread, answer from the callbacks or wait in the thread of the client. */
typedef struct glimpse_engine glimpse_engine;
typedef struct glimpse_engine_params {
  size_t struct_size;
  int32_t n_threads;        /* that compute; 0: one per available CPU */
  int32_t n_ctx;            /* most tokens of one request: prompt with its pictures, and answer */
  int32_t n_batch;          /* rows of one pass */
  int32_t n_parallel;       /* most requests under way at once */
  int32_t n_queued;         /* most requests that wait; further ones are refused with GLIMPSE_ERROR_BUSY */
  int32_t kv_type;          /* glimpse_kv_type */
  int64_t n_pool;           /* cache slots of all requests and of the prompt cache together; 0: n_parallel * n_ctx */
  int32_t prompt_cache;     /* 0: off */
  int32_t image_min_tokens; /* as in glimpse_session_params, to image_source_max_scans */
  int32_t image_max_tokens;
  int32_t image_source_max_scans;
  int64_t image_min_pixels;
  int64_t image_max_pixels;
  int64_t image_source_max_pixels;
  int64_t image_source_max_memory;
  int64_t image_cache_bytes; /* of embeddings that are kept, by the pictures' content; 0: off */
  /* Where embeddings are kept from one process to the next as well. It must exist; NULL: none. What is damaged there is
   * replaced; trouble is a warning in the log, no error. */
  const char* image_cache_dir;
  glimpse_log_callback log;
  void* log_user;
  int32_t image_dedup;           /* as in glimpse_session_params */
  int64_t image_cache_dir_bytes; /* of the files there, at most: those used longest ago go first; 0: no limit */
} glimpse_engine_params;
GLIMPSE_API size_t glimpse_engine_params_init(glimpse_engine_params* params, size_t struct_size);
/* Bytes that an engine would use. */
GLIMPSE_API glimpse_status glimpse_plan_engine(const glimpse_model* model, const glimpse_engine_params* params,
                                               glimpse_memory_plan* plan);
/* Allocates what the plan says. */
GLIMPSE_API glimpse_status glimpse_engine_create(const glimpse_model* model, const glimpse_engine_params* params,
                                                 glimpse_engine** out);
/* Ends what is under way as cancelled, with its callbacks; from one of these: when that has returned. Nothing is called
 * back after it. Other threads may still wait for tickets, which may be freed later. */
GLIMPSE_API void glimpse_engine_free(glimpse_engine* engine);
/* Gives it a thread of its own. */
GLIMPSE_API glimpse_status glimpse_engine_start(glimpse_engine* engine);
/* No further request is taken (GLIMPSE_ERROR_CANCELLED). Returns when those there are have ended; after grace_ms the
 * rest is cancelled. */
GLIMPSE_API glimpse_status glimpse_engine_stop(glimpse_engine* engine, int64_t grace_ms);
/* One pass, or one picture. *more is 0 when nothing is left to do; NULL: not asked. */
GLIMPSE_API glimpse_status glimpse_engine_step(glimpse_engine* engine, int32_t* more);

/* A piece of a message: a text, or a picture, encoded already or not. Clear the struct before you fill it. */
typedef struct glimpse_request_part {
  const char* text; /* as in glimpse_part */
  size_t n_bytes;
  const glimpse_embedding* embedding;
  const glimpse_picture* picture; /* read when its turn comes; what is wrong with it is then the request's error */
} glimpse_request_part;
typedef struct glimpse_request_message {
  const char* role;
  const glimpse_request_part* parts;
  size_t n_parts;
} glimpse_request_message;

/* A request that was submitted. */
typedef struct glimpse_ticket glimpse_ticket;
/* For each token, as glimpse_step() gives it. Return 0 to cancel the request. */
typedef int (*glimpse_token_callback)(void* user, const glimpse_step_result* step);
/* Once, after the last token, whatever ended the request. The ticket is valid until the callback returns:
 * glimpse_ticket_wait() and the others tell what became of it; it is not freed here. */
typedef void (*glimpse_done_callback)(void* user, const glimpse_ticket* ticket);

typedef struct glimpse_request {
  size_t struct_size;
  const glimpse_request_message* messages;
  size_t n_messages;
  /* NULL: the defaults. on_text and progress are not used. */
  const glimpse_generate_params* generate;
  int64_t deadline_ms; /* since it was submitted: it then ends as cancelled, what was said being kept; 0: none */
  int32_t priority;    /* larger ones are admitted first; of equal ones the older */
  glimpse_token_callback on_token;
  void* on_token_user;
  glimpse_done_callback on_done;
  void* on_done_user;
  /* What the model may call: a JSON object each, as OpenAI's "tools" has them. Where the template knows no tools they
   * are GLIMPSE_ERROR_UNSUPPORTED. */
  const char* const* tools;
  size_t n_tools;
  int32_t thinking; /* glimpse_thinking */
} glimpse_request;
GLIMPSE_API size_t glimpse_request_init(glimpse_request* request, size_t struct_size);

/* Everything in the request is copied, pixels and bytes of pictures too; of embeddings a share is kept. out may be NULL
 * when on_done is set. Fails at once, and nothing is called back, when the queue is full (GLIMPSE_ERROR_BUSY), when the
 * request needs more pages than the pool has (_TOO_LARGE) or more tokens than n_ctx (_CONTEXT_FULL, as far as it is
 * known before pictures are read), for options outside their range and for messages that no prompt can be made of. */
GLIMPSE_API glimpse_status glimpse_engine_submit(glimpse_engine* engine, const glimpse_request* request,
                                                 glimpse_ticket** out);
/* The request ends at the next pass, unless it is over. From any thread. */
GLIMPSE_API void glimpse_ticket_cancel(const glimpse_ticket* ticket);
/* Cancels a request that is under way. One thread uses a ticket at a time, but for glimpse_ticket_cancel(). */
GLIMPSE_API void glimpse_ticket_free(glimpse_ticket* ticket);

typedef struct glimpse_request_result {
  size_t struct_size;
  int32_t finished; /* 0: it goes on; the rest is what there is so far */
  /* When finished: GLIMPSE_OK, or what ended it, with the message. An error leaves what was said before it.
   * GLIMPSE_ERROR_CANCELLED: glimpse_ticket_cancel(), a callback, the deadline or the end of the engine. */
  int32_t status;
  const char* message;   /* "" when there is none */
  int32_t finish_reason; /* GLIMPSE_FINISH_NONE until finished, and when there was no answer */
  const char* text;      /* UTF-8, NUL-terminated */
  size_t n_bytes;
  const int32_t* tokens;
  size_t n_tokens;
  const float* logprobs;   /* one per token; NULL when n_top_logprobs is 0 */
  double queued_ms;        /* until its first pass or picture */
  double first_token_ms;   /* since it was submitted; 0: there was none */
  double total_ms;         /* since it was submitted */
  int64_t n_cached_images; /* pictures whose embeddings the cache had */
  int32_t thinking_open;   /* when finished; 1: the text begins inside of what the model thinks */
  /* When finished: of its pictures in the order of the messages, for glimpse_read_shapes(). Zeros: it was not read, for
   * an error came before; none at all when the request never had its turn. */
  const glimpse_picture_size* pictures;
  size_t n_pictures;
} glimpse_request_result;
/* Waits until the request is finished, or has more than n_seen tokens, or timeout_ms have passed; negative: however
 * long it takes. SIZE_MAX tokens: until it is finished; a timeout of 0: asks only. The result is filled in whatever
 * came first; what it points at is valid until the ticket's next call. An engine without a thread of its own is run
 * meanwhile. The status is that of this call: that of the request is in the result. */
GLIMPSE_API glimpse_status glimpse_ticket_wait(const glimpse_ticket* ticket, size_t n_seen, int64_t timeout_ms,
                                               glimpse_request_result* result);
/* As glimpse_get_top_logprobs(), of token `index` of those that the last glimpse_ticket_wait() told of. */
GLIMPSE_API glimpse_status glimpse_ticket_get_top_logprobs(const glimpse_ticket* ticket, size_t index, int32_t* ids,
                                                           float* logprobs, size_t capacity, size_t* n);
/* When it is finished; zeros before. n_cached_tokens: of the prompt, found in the prompt cache; n_prompt_tokens: of the
 * prompt, run through the model. prefill_ms and decode_ms count the passes that it took part in, with their company. */
GLIMPSE_API glimpse_status glimpse_ticket_get_timings(const glimpse_ticket* ticket, glimpse_timings* timings);

typedef struct glimpse_engine_stats {
  size_t struct_size;
  int64_t n_running, n_waiting;
  int64_t n_pages, n_free_pages,
      n_kept_pages; /* of 256 slots; kept: by the prompt cache alone, for want of them freed */
  uint64_t page_bytes;
  /* Since it was created. */
  uint64_t n_requests, n_finished, n_failed, n_cancelled, n_refused;
  uint64_t n_passes;
  uint64_t n_prompt_tokens, n_cached_prompt_tokens; /* run through the model; found in the prompt cache */
  uint64_t n_generated_tokens;
  uint64_t n_images, n_cached_images, n_image_tokens;
  double image_seconds, prefill_seconds, decode_seconds;
} glimpse_engine_stats;
GLIMPSE_API glimpse_status glimpse_engine_get_stats(const glimpse_engine* engine, glimpse_engine_stats* stats);

#ifdef __cplusplus
}
#endif

#endif /* GLIMPSE_GLIMPSE_H_ */
