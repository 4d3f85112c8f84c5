"""Parts of the library for mutation testing: files to be mutated, and the tests that judge them.

The tests of a part take seconds together, as those of a mutant that none of them kills all run.
"""

from __future__ import annotations

SIZES, FLIP = "tests/evaluation/test_batch_size.py::test_", "tests/training/test_flip.py::test_"
ALIGNED = "tests/data/test_contexts_stay_aligned.py::test_"
BASELINES = "tests/evaluation/test_baselines.py::test_"

PARTS: dict[str, tuple[list[str], list[str]]] = {
    "bijectors": (
        [
            "flowpp/bijectors/*.py",
            "flowpp/dequantization.py",
            "flowpp/objective.py",
            "flowpp/elementwise.py",
            "flowpp/root_finding.py",
        ],
        [
            "tests/mutation",
            "tests/bijectors/test_bad_input.py",
            "tests/kernels/test_inverse_certificates.py",
        ],
    ),
    "batches": (
        ["flowpp/training/batches.py"],
        [
            "tests/training/test_batches.py",
            FLIP + "half_of_the_images_are_mirrored_and_no_other_number_changes",
            FLIP + "they_change_from_draw_to_draw_and_repeat_with_the_generator",
            FLIP + "sixteen_bits_reach_the_model",
            "tests/training/test_importance_objective.py::"
            "test_draws_of_an_image_are_together_and_one_draw_is_as_before",
        ],
    ),
    "bounds": (
        [f"flowpp/evaluation/{name}.py" for name in ("bound", "importance", "batch_size")],
        [
            "tests/evaluation/test_bound.py",
            SIZES + "out_of_memory_halves_the_batch_once_and_for_all",
            SIZES + "a_single_row_that_does_not_fit_is_an_error",
            SIZES + "a_batch_has_a_row_at_least",
            SIZES + "other_errors_are_raised_at_once",
            SIZES + "the_memory_on_a_cpu_is_512_megabytes_or_half_of_what_is_free",
            SIZES + "a_gpus_memory_is_measured",
            SIZES + "a_gpu_with_little_memory_starts_with_a_small_batch",
        ],
    ),
    "baselines": (
        ["flowpp/evaluation/baselines.py", "flowpp/evaluation/pixel_bits.py"],
        [
            BASELINES + "the_code_is_its_definition",
            BASELINES + "one_image_of_three_channels_is_coded_as_defined",
            "tests/data/test_bundled.py::test_uniform_code",
            BASELINES + "pseudo_counts_minimize_the_training_images_code",
            "tests/evaluation/test_pixel_bits.py",
        ],
    ),
    "checkpoint": (["flowpp/runs/checkpoint.py"], ["tests/runs/test_checkpoint.py"]),
    "images": (
        [f"flowpp/data/{name}.py" for name in ("duplicates", "fit", "image_set", "reduce")],
        ["tests/data/test_fit.py", "tests/data/test_reduce.py"],
    ),
    "splits": (
        ["flowpp/data/splits.py", "flowpp/data/split_names.py"],
        ["tests/data/test_split_rules.py"],
    ),
    "files": (
        [f"flowpp/data/{name}.py" for name in ("archive", "decode", "folder", "listing")],
        [
            *(f"tests/data/test_{name}.py" for name in ("archive", "decode", "folder", "listing")),
            ALIGNED + "bad_files_are_skipped_with_their_contexts",
            "tests/data/test_context_files.py::test_equal_images_of_two_classes_are_counted",
            "tests/data/test_context_files.py::test_numbers_are_in_their_order_and_counted",
            "tests/data/test_image_depth.py::test_avif",
            "tests/data/test_image_depth.py::"
            "test_files_of_which_pillow_reads_wrong_pixels_are_refused",
            "tests/data/test_image_depth.py::test_grey_of_12_bits_is_scaled",
            "tests/data/test_image_files.py::test_photographs_are_turned_upright",
            "tests/data/test_image_files.py::test_damaged_exif_is_ignored",
            "tests/data/test_image_files.py::test_16_bits_are_resized_in_floating_point",
            "tests/data/test_image_files.py::test_16_bit_colour_is_not_cut_to_8_bits_in_silence",
            "tests/data/test_image_files.py::test_further_frames_and_pages_are_counted",
        ],
    ),
    "kernels": (
        [f"flowpp/kernels/{name}.py" for name in ("backend", "in_use", "cuda/geometry")],
        ["tests/kernels/test_backend_choice.py", "tests/kernels/test_cuda_geometry.py"],
    ),
}
