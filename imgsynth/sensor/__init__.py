"""The sensor: linear, supersampled radiance to the 8-bit images of a file.

In this order, each step skipped where its settings are neutral:

1. Scan, for frames with `binarize` only, on the luminance of the *samples*: blur (`sample_blur_px`), Gaussian
   noise (`sample_noise`), then threshold each sample to ink 0 or paper 1 by the frame's own Otsu threshold
   plus `threshold_bias`. This is how size-normalized bitmaps, such as scanned digits, come about.
2. Resolve: the mean of each k × k block of samples; with `native_px`, the mean over each of the camera's own,
   coarser or finer pixels instead (`imgsynth.sensor.optics.to_grid`).
3. Veil: `veil` of the light is spread evenly over the frame (haze, a dirty lens), in each channel.
4. Expose: auto-exposure by `auto_exposure`, times 2^`exposure_ev`, times `white_balance`; then `saturation`
   about the luminance; with one channel, the luminance.
5. Optics: lateral chromatic aberration (the red and the blue picture larger by `chromatic`), Gaussian blur of
   `blur_px`, motion along `motion_deg` of `motion_px`; then vignetting (`vignetting` of the light is lost in
   the corners by the cos⁴ law; `vignette_terms` is the radial polynomial instead, or beside it).
6. Noise in linear light: normal, of the variance of Poisson counts and a normal readout,
   `shot_noise` · signal + `read_noise`² (Foi et al., "Practical Poissonian-Gaussian noise modeling", IEEE TIP
   17(10), 2008). With `mosaic` each pixel then keeps one colour of a Bayer filter and gets the others from
   its neighbours: fine strokes take on false colours.
7. Contrast: 0.18·(signal/0.18)^`contrast`, plus `black_level`; `filmic` of a filmic curve. Clip to [0, 1],
   tone curve, 8-bit rounding, `sharpen` (the difference from a Gaussian blur of 1 pixel, so many times, is
   added), `invert`, JPEG round trip at `jpeg_quality`.
8. With `native_px`: the resize to the picture's size that a data set's maker did (`native_resize`).
9. Effects: albumentations' transforms of the 8-bit picture (`imgsynth.sensor.effects`).

From step 2 to 7 a frame with `native_px` is that many pixels wide, and all lengths in pixels count those: a
sign cut out of a photograph was blurred, noisy and compressed before it was brought to 32 × 32.

Noise comes from `imgsynth.seeding` by (seed, "sensor.…", frame number), so a frame is the same alone and in
any batch. Blurs reflect at the border, so that they keep the frame's energy; labels do not move by any of
this, and are those of the finished picture's pixels.
"""

from imgsynth.sensor.effects import Effects
from imgsynth.sensor.expose import expose
from imgsynth.sensor.glass import aberrated, vignetted
from imgsynth.sensor.optics import blur, mosaicked, motion_blur, resized, resolve, sharpened, to_grid
from imgsynth.sensor.scan import otsu
from imgsynth.sensor.settings import RESIZES, TONES, SensorSettings

__all__ = [
    "RESIZES",
    "TONES",
    "Effects",
    "SensorSettings",
    "aberrated",
    "blur",
    "expose",
    "mosaicked",
    "motion_blur",
    "otsu",
    "resized",
    "resolve",
    "sharpened",
    "to_grid",
    "vignetted",
]
